package streamhouse.compat;

import java.nio.charset.StandardCharsets;

/** The generator that all programs share (SCENARIOS.md, "Generator"). */
final class Payload {
    private Payload() {}

    /** {@code n} bytes that do not compress, the same for the same seed in every program. */
    static byte[] bytes(int seed, int n) {
        int x = seed ^ 0x9E3779B9;
        if (x == 0) {
            x = 1;
        }
        byte[] out = new byte[n];
        for (int i = 0; i < n; i++) {
            x ^= x << 13;
            x ^= x >>> 17;
            x ^= x << 5;
            out[i] = (byte) x;
        }
        return out;
    }

    /** A value that compresses well and differs per record. */
    static byte[] text(int i) {
        return utf8(("value-" + i + "-").repeat(i % 50 + 1));
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** For messages: null, or the length and the beginning in readable form. */
    static String show(byte[] bytes) {
        if (bytes == null) {
            return "null";
        }
        StringBuilder out = new StringBuilder().append(bytes.length).append(" bytes '");
        for (int i = 0; i < Math.min(bytes.length, 40); i++) {
            char c = (char) (bytes[i] & 0xff);
            out.append(c >= ' ' && c < 127 ? String.valueOf(c) : String.format("\\x%02x", (int) c));
        }
        return out.append(bytes.length > 40 ? "'..." : "'").toString();
    }
}
