/* Allocations that fail when a test wants it: see failing_memory.c. */
#ifndef FAILING_MEMORY_H
#define FAILING_MEMORY_H

/* From now on this thread's allocations number `from` to `to` fail; the next one is number 1. */
void fail_allocations(long from, long to);
/* Allocations no longer fail. How many there were. */
long stop_failing(void);
/* Blocks and mappings that were not freed. */
long blocks_in_use(void);

#endif
