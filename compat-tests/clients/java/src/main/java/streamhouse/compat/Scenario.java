package streamhouse.compat;

/** One entry of SCENARIOS.md. */
interface Scenario {
    /**
     * Runs the scenario to its end.
     *
     * @return the details for the {@code ok} line
     * @throws Mismatch when something compared unequal; any other exception is a failure too
     */
    String run(Setup setup) throws Exception;
}
