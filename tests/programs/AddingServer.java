// An HTTP server with 200 threads that adds numbers up. AddingServer PORT
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicLong;

public class AddingServer {
    static final int THREADS = 200;
    static final ConcurrentHashMap<String, long[]> sums = new ConcurrentHashMap<>();
    static final AtomicLong ticks = new AtomicLong();
    // What each thread has counted for itself, against what all have.
    static final ThreadLocal<long[]> own = ThreadLocal.withInitial(() -> new long[1]);
    static long checks = 0;

    static String add(String client, long n) {
        long[] sum = sums.computeIfAbsent(client, name -> new long[2]);
        synchronized (sum) {
            if (n == sum[0] + 1) {
                sum[0]++;
                sum[1] += n;
            }
            return sum[0] + " " + sum[1];
        }
    }

    // Every thread of the pool meets all the others, and has been here as often as they.
    static synchronized String check(ExecutorService threads) throws Exception {
        CyclicBarrier all = new CyclicBarrier(THREADS);
        Future<?>[] results = new Future<?>[THREADS];
        checks++;
        for (int i = 0; i < THREADS; i++)
            results[i] = threads.submit(() -> {
                all.await();
                return ++own.get()[0];
            });
        int right = 0;
        for (Future<?> result : results)
            if ((Long) result.get() == checks) right++;
        return right + " " + ticks;
    }

    public static void main(String[] args) throws Exception {
        ScheduledExecutorService timer = Executors.newScheduledThreadPool(1);
        timer.scheduleAtFixedRate(ticks::incrementAndGet, 3, 3, TimeUnit.MILLISECONDS);
        ExecutorService threads = Executors.newFixedThreadPool(THREADS);
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 50);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", exchange -> {
            String[] path = exchange.getRequestURI().getPath().split("/");
            String answer;
            try {
                answer = switch (path[1]) {
                    case "add" -> add(path[2], Long.parseLong(path[3]));
                    case "get" -> add(path[2], 0);
                    default -> check(threads);
                };
            } catch (Exception error) {
                answer = error.toString();
            }
            byte[] body = answer.getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }
}
