import java.io.FileWriter;
import java.io.IOException;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CyclicBarrier;

/** Computes on arrays in several threads while it makes garbage, and tells each step with a checksum: Crunch STEPS_FILE. */
public class Crunch {
    static final int THREADS = 4;
    static final int LENGTH = 5000;

    public static void main(String[] args) throws Exception {
        long[][] arrays = new long[THREADS][LENGTH];
        CyclicBarrier begin = new CyclicBarrier(THREADS + 1);
        CyclicBarrier end = new CyclicBarrier(THREADS + 1);
        for (int n = 0; n < THREADS; n++) {
            long[] numbers = arrays[n];
            for (int i = 0; i < LENGTH; i++) {
                numbers[i] = (long) n * LENGTH + i;
            }
            Thread thread = new Thread(() -> work(numbers, begin, end), "worker " + n);
            thread.setDaemon(true);
            thread.start();
        }
        for (long step = 1; ; step++) {
            begin.await();
            end.await();
            long checksum = 0;
            for (long[] numbers : arrays) {
                for (long number : numbers) {
                    checksum = checksum * 31 + number;
                }
            }
            try (FileWriter told = new FileWriter(args[0], true)) {
                told.write(step + " " + Long.toUnsignedString(checksum) + "\n");
            }
            Thread.sleep(2);
        }
    }

    static void work(long[] numbers, CyclicBarrier begin, CyclicBarrier end) {
        Map<Integer, Long> boxed = new HashMap<>();
        try {
            while (true) {
                begin.await();
                for (int i = 0; i < numbers.length; i++) {
                    // By way of the heap: what the collector moves must come back as it was.
                    boxed.put(i, numbers[i]);
                }
                for (int i = 0; i < numbers.length; i++) {
                    numbers[i] = boxed.remove(i) * 6364136223846793005L + 1442695040888963407L + i;
                }
                end.await();
            }
        } catch (Exception e) {
            e.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }
}
