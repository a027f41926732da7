/* Errors that sanitizers detect: "leak" (error objects), "overflow" (of the heap), "undefined" (behavior) or "race".
 * Harmless without sanitizers. c_api.rs and process.rs check with it that they are on. */
#include <metaadamw.h>

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static maw_error *volatile lost;

/* Several objects: a pointer to the last one may still be in a register or on the stack. */
static void leak(void) {
    for (int i = 0; i < 10; i++) {
        maw_error *error = NULL;
        if (maw_prepare(NULL, &error) == MAW_OK)
            exit(2);
        lost = error;
    }
    lost = NULL;
}

static void overflow(void) {
    volatile size_t length = 20; /* volatile, or compilers would detect it */
    volatile char *bytes = malloc(length);
    if (bytes == NULL)
        exit(2);
    volatile char behind = bytes[length];
    (void)behind;
    free((void *)bytes);
}

static void undefined(void) {
    volatile int number = INT_MAX;
    number = number + 1;
}

static int shared;

static void *increment(void *nothing) {
    shared++;
    return nothing;
}

static void race(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, increment, NULL) != 0)
        exit(2);
    increment(NULL);
    pthread_join(thread, NULL);
}

int main(int count, char **arguments) {
    const char *what = count == 2 ? arguments[1] : "";
    if (strcmp(what, "leak") == 0)
        leak();
    else if (strcmp(what, "overflow") == 0)
        overflow();
    else if (strcmp(what, "undefined") == 0)
        undefined();
    else if (strcmp(what, "race") == 0)
        race();
    else
        return 2;
    puts("nothing found");
    return EXIT_SUCCESS;
}
