package streamhouse.compat;

/** The command line makes no sense; the program ends with status 2. */
final class UsageError extends RuntimeException {
    private static final long serialVersionUID = 1L;

    UsageError(String message) {
        super(message);
    }
}
