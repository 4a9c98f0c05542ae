"""A pool of four processes, shared memory and queues; tells each step with a checksum: pool.py STEPS_FILE SHARED_MEMORY_NAME."""

import multiprocessing
import os
import sys
from multiprocessing import shared_memory

WORKERS, LENGTH = 4, 5000
MASK = (1 << 64) - 1


def pooled(arguments):
    """One task of the pool: a fourth of the numbers, in place."""
    name, part = arguments
    memory = shared_memory.SharedMemory(name=name)
    numbers = memory.buf.cast("Q")
    for i in range(LENGTH):
        at = part * LENGTH + i
        numbers[at] = (numbers[at] * 6364136223846793005 + 1442695040888963407 + i) & MASK
    numbers.release()
    memory.close()
    with done.get_lock():
        done.value += 1
    return part, os.getpid()


def summing(tasks, answers):
    """A process of its own, behind two queues: the checksum of a step."""
    while (task := tasks.get()) is not None:
        name, step = task
        memory = shared_memory.SharedMemory(name=name)
        numbers = memory.buf.cast("Q")
        checksum = 0
        for at in range(WORKERS * LENGTH):
            checksum = (checksum * 31 + numbers[at]) & MASK
        numbers.release()
        memory.close()
        answers.put((step, checksum))


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    done = multiprocessing.Value("Q", 0)
    memory = shared_memory.SharedMemory(sys.argv[2], create=True, size=WORKERS * LENGTH * 8)
    numbers = memory.buf.cast("Q")
    for at in range(WORKERS * LENGTH):
        numbers[at] = at
    tasks, answers = multiprocessing.Queue(), multiprocessing.Queue()
    multiprocessing.Process(target=summing, args=(tasks, answers), daemon=True).start()
    with multiprocessing.Pool(WORKERS) as pool:
        step = 0
        while True:
            parts = pool.map(pooled, [(memory.name, part) for part in range(WORKERS)], chunksize=1)
            step += 1
            assert [part for part, _ in parts] == list(range(WORKERS)), parts
            assert done.value == step * WORKERS, (done.value, step)
            tasks.put((memory.name, step))
            told, checksum = answers.get()
            assert told == step
            with open(sys.argv[1], "a") as file:
                file.write(f"{step} {checksum}\n")
