package streamhouse.compat;

import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;

/** The command line of SCENARIOS.md. */
public final class Main {
    private static final int OK = 0;
    private static final int FAILED = 1;
    private static final int USAGE = 2;
    private static final int DEFAULT_DEADLINE_SECONDS = 90;
    /** Scenarios of {@code all} at a time: they mostly wait, so more than there are cores. */
    private static final int SIDE_BY_SIDE = 8;

    /** A scenario and the keys it knows beside {@link #COMMON_KEYS}. */
    private record Entry(Scenario scenario, boolean inAll, Set<String> keys) {}

    private static final Set<String> COMMON_KEYS = Set.of("run", "deadline", "settle");
    private static final Map<String, Entry> SCENARIOS = scenarios();

    private Main() {}

    private static Map<String, Entry> scenarios() {
        Map<String, Entry> all = new LinkedHashMap<>();
        all.put("group", new Entry(new GroupScenario(), true, Set.of()));
        all.put("admin", new Entry(new AdminScenario(), true, Set.of()));
        all.put("manual", new Entry(new ManualScenario(), true, Set.of()));
        all.put("defaults", new Entry(new DefaultsScenario(), true, Set.of()));
        all.put("codecs", new Entry(new CodecsScenario(), true, Set.of()));
        all.put("shapes", new Entry(new ShapesScenario(), true, Set.of()));
        all.put("sizes", new Entry(new SizesScenario(), true, Set.of()));
        all.put("partitions", new Entry(new PartitionsScenario(), true, Set.of()));
        all.put("interop-write", new Entry(Interop::write, false, Set.of("topic", "count", "codec", "profile")));
        all.put("interop-read", new Entry(Interop::read, false, Set.of("topic", "count", "codec", "profile", "without")));
        all.put("restart", new Entry(new RestartScenario(), false, Set.of("topic", "count", "pace")));
        all.put("latency", new Entry(new LatencyScenario(), false, Set.of("count")));
        return all;
    }

    public static void main(String[] args) {
        LogTail log = LogTail.install();
        int status;
        try {
            status = start(args, log);
            if (status == FAILED) {
                log.print(System.err);
            }
        } catch (UsageError e) {
            System.err.println(e.getMessage());
            System.err.println("usage: <java4|java3> <scenario> <bootstrap> [run=<id>] [deadline=<seconds>] [settle=yes] [key=value ...]");
            System.err.println("scenarios: all " + String.join(" ", SCENARIOS.keySet()));
            status = USAGE;
        }
        System.out.flush();
        // Threads of a failed scenario may still be waiting for the broker; they are not waited for.
        Runtime.getRuntime().halt(status);
    }

    private static int start(String[] args, LogTail log) {
        if (args.length < 3) {
            throw new UsageError("too few arguments");
        }
        String name = args[1];
        Entry entry = SCENARIOS.get(name);
        if (entry == null && !name.equals("all")) {
            throw new UsageError("unknown scenario '" + name + "'");
        }
        String version = args[0].startsWith("java") ? args[0].substring(4) : "";
        if (version.isEmpty() || !clientsVersion().startsWith(version + ".")) {
            throw new UsageError("library '" + args[0] + "' asked for, kafka-clients " + clientsVersion() + " found");
        }
        Map<String, String> options = options(args, entry == null ? Set.of() : entry.keys());
        String run = options.getOrDefault("run", Long.toString(System.currentTimeMillis(), 36));
        if (!run.matches("[a-z0-9-]{1,32}")) {
            throw new UsageError("run=" + run + " does not match [a-z0-9-]{1,32}");
        }
        if (!options.getOrDefault("settle", "yes").equals("yes")) {
            throw new UsageError("settle=" + options.get("settle") + " is not yes");
        }
        Setup setup = new Setup(args[0], name, args[2], run, options);
        watch(setup.number("deadline", DEFAULT_DEADLINE_SECONDS), log);
        return entry == null ? runAll(setup) : runOne(setup, entry);
    }

    /** As written in the jar; the class that reads it has moved between versions. */
    private static String clientsVersion() {
        Properties properties = new Properties();
        try (InputStream in = KafkaProducer.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            properties.load(in);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return properties.getProperty("version");
    }

    private static Map<String, String> options(String[] args, Set<String> known) {
        Map<String, String> options = new HashMap<>();
        for (int i = 3; i < args.length; i++) {
            int equals = args[i].indexOf('=');
            String key = equals < 0 ? args[i] : args[i].substring(0, equals);
            if (equals < 0 || !(known.contains(key) || COMMON_KEYS.contains(key))) {
                Set<String> names = new TreeSet<>(known);
                names.addAll(COMMON_KEYS);
                throw new UsageError("unknown option '" + args[i] + "'; known: " + names);
            }
            options.put(key, args[i].substring(equals + 1));
        }
        return options;
    }

    private static int runOne(Setup setup, Entry entry) {
        long start = System.nanoTime();
        Thread thread = Thread.currentThread();
        try {
            thread.setName("scenario-" + setup.scenario());
            String details = entry.scenario().run(setup);
            long ms = (System.nanoTime() - start) / 1_000_000;
            report(System.out, "ok " + setup.scenario() + " " + details + " ms=" + ms);
            return OK;
        } catch (UsageError e) {
            throw e;
        } catch (Exception e) {
            explain(setup, e);
            return FAILED;
        } finally {
            thread.setName("idle");
        }
    }

    private static int runAll(Setup setup) {
        long start = System.nanoTime();
        Map<String, Future<Integer>> running = new LinkedHashMap<>();
        ExecutorService threads = Executors.newFixedThreadPool(SIDE_BY_SIDE);
        SCENARIOS.forEach((name, entry) -> {
            if (entry.inAll()) {
                running.put(name, threads.submit(() -> runOne(setup.forScenario(name), entry)));
            }
        });
        List<String> failed = new ArrayList<>();
        running.forEach((name, future) -> {
            if (outcome(future) != OK) {
                failed.add(name);
            }
        });
        threads.shutdown();
        long ms = (System.nanoTime() - start) / 1_000_000;
        if (failed.isEmpty()) {
            report(System.out, "ok all scenarios=" + running.size() + " ms=" + ms);
            return OK;
        }
        report(System.err, "failed: " + String.join(" ", failed));
        return FAILED;
    }

    private static int outcome(Future<Integer> future) {
        try {
            return future.get();
        } catch (InterruptedException | ExecutionException e) {
            e.printStackTrace();
            return FAILED;
        }
    }

    /** Runs parts of one scenario side by side and joins their details. The first failure is thrown once all have ended. */
    static String sideBySide(Map<String, Callable<String>> parts) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(parts.size());
        Map<String, Future<String>> running = new LinkedHashMap<>();
        parts.forEach((name, part) -> running.put(name, threads.submit(() -> {
            Thread.currentThread().setName("scenario-part-" + name);
            return part.call();
        })));
        threads.shutdown();
        StringBuilder details = new StringBuilder();
        Exception first = null;
        for (Map.Entry<String, Future<String>> part : running.entrySet()) {
            try {
                details.append(details.isEmpty() ? "" : " ").append(part.getValue().get());
            } catch (ExecutionException e) {
                Exception failure = new Exception("part " + part.getKey(), e.getCause());
                if (first == null) {
                    first = failure;
                } else {
                    first.addSuppressed(failure);
                }
            }
        }
        if (first != null) {
            throw first;
        }
        return details.toString();
    }

    private static synchronized void report(PrintStream stream, String line) {
        stream.println(line);
        stream.flush();
    }

    private static synchronized void explain(Setup setup, Exception failure) {
        System.err.println("FAILED " + setup.library() + " " + setup.scenario() + " run=" + setup.run());
        failure.printStackTrace();
        System.err.flush();
    }

    /** Ends the program at the deadline, telling where the scenarios stand. */
    private static void watch(int seconds, LogTail log) {
        Thread thread = new Thread(() -> {
            try {
                Thread.sleep(seconds * 1000L);
            } catch (InterruptedException e) {
                return;
            }
            System.err.println("FAILED deadline of " + seconds + " s reached; the scenarios stand at:");
            Thread.getAllStackTraces().forEach((other, stack) -> {
                if (other.getName().startsWith("scenario-") || other.getName().startsWith("member-")) {
                    System.err.println(other.getName());
                    for (StackTraceElement frame : stack) {
                        System.err.println("    at " + frame);
                    }
                }
            });
            log.print(System.err);
            System.err.flush();
            Runtime.getRuntime().halt(FAILED);
        }, "deadline");
        thread.setDaemon(true);
        thread.start();
    }
}
