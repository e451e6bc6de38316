package streamhouse.compat;

import java.util.Arrays;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;

/** Comparisons; each throws {@link Mismatch} naming what was compared. */
final class Check {
    private Check() {}

    static void equal(String what, Object expected, Object actual) {
        if (!Objects.equals(expected, actual)) {
            throw new Mismatch(what + ": expected " + expected + ", got " + actual);
        }
    }

    static void that(String what, boolean holds) {
        if (!holds) {
            throw new Mismatch(what);
        }
    }

    static void bytes(String what, byte[] expected, byte[] actual) {
        if (!Arrays.equals(expected, actual)) {
            String where = "";
            if (expected != null && actual != null) {
                where = " (first difference at byte " + Arrays.mismatch(expected, actual) + ")";
            }
            throw new Mismatch(
                    what + ": expected " + Payload.show(expected) + ", got " + Payload.show(actual) + where);
        }
    }

    static void headers(String what, Headers expected, Headers actual) {
        Header[] want = expected.toArray();
        Header[] have = actual.toArray();
        equal(what + ": number of headers", want.length, have.length);
        for (int i = 0; i < want.length; i++) {
            equal(what + ": name of header " + i, want[i].key(), have[i].key());
            bytes(what + ": value of header " + i, want[i].value(), have[i].value());
        }
    }

    /** Key, value and headers; the timestamp too when the sender gave one. */
    static void record(
            String what, ProducerRecord<byte[], byte[]> expected, ConsumerRecord<byte[], byte[]> actual) {
        bytes(what + ": key", expected.key(), actual.key());
        bytes(what + ": value", expected.value(), actual.value());
        headers(what, expected.headers(), actual.headers());
        if (expected.timestamp() != null) {
            equal(what + ": timestamp", expected.timestamp(), actual.timestamp());
        }
    }

    /** The call must fail with exactly this class, bare or as the cause of an ExecutionException. */
    static void fails(String what, Class<? extends Exception> expected, Callable<?> call) throws Exception {
        Throwable got;
        try {
            Object result = call.call();
            throw new Mismatch(what + ": expected " + expected.getSimpleName() + ", but it succeeded with " + result);
        } catch (ExecutionException e) {
            got = e.getCause();
        } catch (Mismatch e) {
            throw e;
        } catch (Exception e) {
            got = e;
        }
        if (got.getClass() != expected) {
            Mismatch mismatch = new Mismatch(what + ": expected " + expected.getSimpleName() + ", got " + got);
            mismatch.initCause(got);
            throw mismatch;
        }
    }

    /** Waits, polling every 50 ms, until the condition holds. */
    static void eventually(String what, int seconds, BooleanSupplier holds) throws InterruptedException {
        long end = System.nanoTime() + seconds * 1_000_000_000L;
        while (!holds.getAsBoolean()) {
            if (System.nanoTime() > end) {
                throw new Mismatch("not within " + seconds + " s: " + what);
            }
            Thread.sleep(50);
        }
    }
}
