"""Computes on arrays in several threads, and tells each step with a checksum: crunch.py STEPS_FILE."""

import array
import sys
import threading

THREADS, LENGTH = 4, 5000
MASK = (1 << 64) - 1
arrays = [array.array("Q", range(n * LENGTH, (n + 1) * LENGTH)) for n in range(THREADS)]
begin = threading.Barrier(THREADS + 1)
end = threading.Barrier(THREADS + 1)


def work(numbers):
    while True:
        begin.wait()
        for i, number in enumerate(numbers):
            numbers[i] = (number * 6364136223846793005 + 1442695040888963407 + i) & MASK
        end.wait()


for numbers in arrays:
    threading.Thread(target=work, args=(numbers,), daemon=True).start()
step = 0
while True:
    begin.wait()
    end.wait()
    step += 1
    checksum = 0
    for numbers in arrays:
        for number in numbers:
            checksum = (checksum * 31 + number) & MASK
    with open(sys.argv[1], "a") as told:
        told.write(f"{step} {checksum}\n")
