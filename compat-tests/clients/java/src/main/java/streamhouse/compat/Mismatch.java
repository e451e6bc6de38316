package streamhouse.compat;

/** What came is not what was expected; the message says both. */
final class Mismatch extends RuntimeException {
    private static final long serialVersionUID = 1L;

    Mismatch(String message) {
        super(message);
    }
}
