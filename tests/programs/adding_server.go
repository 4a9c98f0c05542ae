// An HTTP server with 100 goroutines that adds numbers up. adding_server PORT
package main

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const workers = 100

type sum struct{ count, total uint64 }

var (
	lock  sync.Mutex
	sums  = map[string]*sum{}
	ticks uint64
)

func add(client string, n uint64) string {
	lock.Lock()
	defer lock.Unlock()
	s, known := sums[client]
	if !known {
		s = &sum{}
		sums[client] = s
	}
	if n == s.count+1 {
		s.count++
		s.total += n
	}
	return fmt.Sprint(s.count, " ", s.total)
}

func main() {
	go func() {
		for range time.Tick(3 * time.Millisecond) {
			atomic.AddUint64(&ticks, 1)
		}
	}()
	// Half of the workers hold a thread of their own.
	asked := make([]chan uint64, workers)
	answers := make(chan bool)
	for i := range asked {
		asked[i] = make(chan uint64)
		go func(asked chan uint64, own bool) {
			if own {
				runtime.LockOSThread()
			}
			var times uint64
			for wanted := range asked {
				times++
				answers <- times == wanted
			}
		}(asked[i], i%2 == 0)
	}
	var checks uint64
	var checking sync.Mutex
	check := func() string {
		checking.Lock()
		defer checking.Unlock()
		checks++
		right := 0
		for _, worker := range asked {
			worker <- checks
		}
		for range asked {
			if <-answers {
				right++
			}
		}
		return fmt.Sprint(right, " ", atomic.LoadUint64(&ticks))
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		path := strings.Split(r.URL.Path, "/")
		answer := ""
		switch path[1] {
		case "add":
			n, _ := strconv.ParseUint(path[3], 10, 64)
			answer = add(path[2], n)
		case "get":
			answer = add(path[2], 0)
		default:
			answer = check()
		}
		fmt.Fprint(w, answer)
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
