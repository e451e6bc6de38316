/* The system's source of chance, for a process in which nothing is to be of chance: every thread hears the same bytes, which follow
 * from the seed. Loaded before the C library; Rust's standard library asks here for the order of its hash maps, and tokio takes the
 * order in which it wakes tasks from those. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

static _Thread_local uint64_t state;

ssize_t getrandom(void *buffer, size_t length, unsigned flags)
{
	unsigned char *bytes = buffer;

	(void)flags;
	if (state == 0) {
		const char *seed = getenv("STREAMHOUSE_SIM_SEED");
		state = 2 * (seed ? strtoull(seed, NULL, 10) : 0) + 1;
	}
	for (size_t at = 0; at < length; at++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		bytes[at] = (unsigned char)(state >> 56);
	}
	return (ssize_t)length;
}
