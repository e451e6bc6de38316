package streamhouse.compat;

import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.slf4j.LoggerFactory;

/**
 * Keeps the end of what the library logs. Warnings belong to an ordinary start (a topic that is not known yet), so they are shown
 * only when a scenario fails.
 */
final class LogTail extends OutputStream {
    private static final int KEPT_BYTES = 32 * 1024;

    private final byte[] ring = new byte[KEPT_BYTES];
    private long written;

    /** Must be called before anything logs: the logger takes the stream it finds at its first use, and keeps it. */
    static LogTail install() {
        LogTail tail = new LogTail();
        PrintStream errors = System.err;
        System.setErr(new PrintStream(tail, true, StandardCharsets.UTF_8));
        LoggerFactory.getLogger(LogTail.class);
        System.setErr(errors);
        return tail;
    }

    @Override
    public synchronized void write(int b) {
        ring[(int) (written++ % KEPT_BYTES)] = (byte) b;
    }

    synchronized void print(PrintStream stream) {
        int kept = (int) Math.min(written, KEPT_BYTES);
        byte[] out = new byte[kept];
        for (int i = 0; i < kept; i++) {
            out[i] = ring[(int) ((written - kept + i) % KEPT_BYTES)];
        }
        if (kept > 0) {
            stream.println("the library's last warnings:");
            stream.write(out, 0, kept);
            stream.flush();
        }
    }
}
