# Thin on purpose: each target is one line, and the README names the two that matter (run, test).
.PHONY: run test bench compare compose soak fuzz sim micro profile fmt lint

run: ## a gateway on 127.0.0.1:9092 with its data in ./data
	cargo run --release

test: ## everything: unit, contract, crash and real-client tests; installs what the clients need
	bash compat-tests/run.sh

bench: ## prints the numbers the README quotes, and how they were measured
	bash compat-tests/bench.sh

compare: ## beside Apache Kafka and Nisshi: the same clients, the same work, in turn; compare.sh --quick takes 20 minutes
	bash compat-tests/compare/compare.sh

compose: ## the compose files in real containers, with MinIO, PostgreSQL and Prometheus; see docker/compose-test.sh for what it needs
	cargo build --release -p gateway -p kafka-tools
	docker/compose-test.sh "$${CARGO_TARGET_DIR:-target}/release/streamhouse"

micro: ## the steps of a record's way one by one: time and memory of each
	cargo bench -p compat-tests --bench micro

profile: ## flame graphs of produce and fetch, into docs/plots
	bash compat-tests/profile.sh

soak: ## an hour of writing with retention and merges: memory, objects and index must stay flat; half an hour of faults in a cluster
	cargo build --workspace --bins --features gateway/failpoints
	STREAMHOUSE_SOAK_SECONDS=3600 cargo test --workspace --features gateway/failpoints --test soak -- --nocapture
	STREAMHOUSE_CHAOS_SECONDS=1800 cargo test --workspace --features gateway/failpoints --test chaos -- --nocapture

fuzz: ## every decoder of foreign bytes for a minute; needs a nightly compiler and cargo-fuzz
	cp Cargo.lock compat-tests/fuzz/
	cd compat-tests && for target in request batch segment journal; do \
	  cargo +nightly fuzz run $$target -- -max_total_time=60 -max_len=65536 -malloc_limit_mb=256 || exit 1; done

sim: ## 2,000 simulated clusters, a seed each (docs/testing.md)
	STREAMHOUSE_SIM_SEEDS=2000 cargo test --release -p compat-tests --test sim -- --nocapture no_seed

fmt:
	cargo fmt --all

lint:
	cargo fmt --all --check && cargo clippy --workspace --all-targets --features gateway/failpoints -- -D warnings
