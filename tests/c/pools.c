/* What the library's threads are to the process: how many there are, when they end, that they take none of the host's
 * signals, and what happens when the system refuses them. Linux only: it looks into /proc. */
#define _GNU_SOURCE
#include "check.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LENGTH = 300000, STEPS = 10, CALLERS = 4, SECONDS = 100 }; /* a pool from 262,144 elements on */

/* ---- pthread_create, which can be told to refuse ---- */

static int allowed = -1; /* threads that may still be started, -1: any number */

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*work)(void *), void *argument) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    if (allowed == 0)
        return EAGAIN;
    if (allowed > 0)
        allowed--;
    return real(thread, attributes, work, argument);
}

/* ---- a host ---- */

struct run {
    maw_optimizer *optimizer;
    float param[LENGTH], grad[LENGTH];
};

static char heard[1000];

static void hear(int32_t level, const char *message, void *user_data) {
    (void)user_data;
    TRUE(level == MAW_LOG_WARNING && strlen(message) < sizeof heard);
    strcpy(heard, message);
}

static maw_optimizer *prepared(uint32_t threads) {
    static const uint64_t shape[] = {LENGTH};
    maw_optimizer *optimizer = NULL;
    maw_options options;
    maw_param_group group;
    maw_tensor tensor;
    CHECK(maw_options_init(&options, sizeof options));
    options.threads = threads;
    options.attn_layers = 1;
    CHECK(maw_param_group_init(&group, sizeof group));
    CHECK(maw_tensor_init(&tensor, sizeof tensor));
    tensor.name = "weight";
    tensor.shape = shape;
    tensor.ndim = 1;
    CHECK(maw_optimizer_create(&options, &optimizer, &error));
    CHECK(maw_add_param_group(optimizer, &group, &tensor, 1, NULL, &error));
    CHECK(maw_set_log(optimizer, hear, NULL, &error));
    CHECK(maw_prepare(optimizer, &error));
    return optimizer;
}

static void destroy(maw_optimizer *optimizer) { TRUE(maw_optimizer_free(optimizer) == MAW_OK); }

static struct run *new_run(uint32_t threads) {
    struct run *run = calloc(1, sizeof *run);
    TRUE(run != NULL);
    run->optimizer = prepared(threads);
    for (size_t i = 0; i < LENGTH; i++) {
        run->param[i] = 0.001f * (float)(i % 100);
        run->grad[i] = 0.01f * (float)(i % 7) - 0.02f;
    }
    return run;
}

static void step(struct run *run) {
    void *params[] = {run->param};
    const void *grads[] = {run->grad};
    CHECK(maw_step(run->optimizer, params, grads, 1, NULL, NULL, &error));
}

static void *steps(void *run) {
    for (int i = 0; i < STEPS; i++)
        step(run);
    return run;
}

static void free_run(struct run *run) {
    destroy(run->optimizer);
    free(run);
}

static struct run *alone; /* the same steps with one thread */

static int same(const struct run *run) { return memcmp(run->param, alone->param, sizeof run->param) == 0; }

/* ---- threads of this process ---- */

/* Calls `look` with the text of each thread's status, and counts those of the library. */
static int look_at_threads(void (*look)(const char *status)) {
    DIR *folder = opendir("/proc/self/task");
    int found = 0;
    TRUE(folder != NULL);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[300], status[4096];
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        FILE *file = fopen(path, "r");
        if (entry->d_name[0] == '.' || file == NULL) /* one that has just ended */
            continue;
        status[fread(status, 1, sizeof status - 1, file)] = '\0';
        fclose(file);
        if (strncmp(status, "Name:\tmetaadamw-", 16) == 0) {
            found++;
            if (look != NULL)
                look(status);
        }
    }
    closedir(folder);
    return found;
}

/* Whether there are so many; a joined thread leaves /proc, and a new one gets its name, a little later. */
static int pool_threads_are(int wanted) {
    const struct timespec moment = {0, 10000000};
    for (int i = 0; i < 500; i++) {
        if (look_at_threads(NULL) == wanted)
            return 1;
        nanosleep(&moment, NULL);
    }
    fprintf(stderr, "there are %d threads of the library\n", look_at_threads(NULL));
    return 0;
}

/* ------------------------------------------------------------------------ */

static void optimizers_share_a_pool_which_ends_with_the_last(void) {
    enum { MANY = 300 };
    static maw_optimizer *many[MANY];
    for (int i = 0; i < MANY; i++)
        many[i] = prepared(4);
    TRUE(pool_threads_are(3));
    maw_optimizer *other = prepared(3);
    TRUE(pool_threads_are(3 + 2));
    maw_optimizer *one = prepared(1);
    TRUE(pool_threads_are(3 + 2));
    for (int i = 1; i < MANY; i++)
        destroy(many[i]);
    TRUE(pool_threads_are(3 + 2));
    destroy(many[0]);
    TRUE(pool_threads_are(2));
    destroy(one);
    destroy(other);
    TRUE(pool_threads_are(0));
    printf("pools: %d optimizers, 3 threads of the library\n", MANY);
}

static void callers_share_a_pool_without_harm(void) {
    struct run *runs[CALLERS];
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        runs[i] = new_run(3);
        TRUE(pthread_create(&threads[i], NULL, steps, runs[i]) == 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        TRUE(pthread_join(threads[i], NULL) == 0);
        TRUE(same(runs[i]));
        free_run(runs[i]);
    }
}

/* Pools come and go in several threads at once. */
static void *new_runs(void *nothing) {
    for (int i = 0; i < STEPS; i++) {
        maw_optimizer *optimizer = prepared(2 + (uint32_t)i % 2);
        destroy(optimizer);
    }
    return nothing;
}

static void pools_come_and_go_in_several_threads(void) {
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; i++)
        TRUE(pthread_create(&threads[i], NULL, new_runs, NULL) == 0);
    for (int i = 0; i < CALLERS; i++)
        TRUE(pthread_join(threads[i], NULL) == 0);
    TRUE(pool_threads_are(0));
}

static void refused_threads_are_told_of_and_the_others_used(void) {
    for (int granted = 0; granted < 3; granted++) {
        char wanted[200], in_dump[32];
        maw_bytes *json = NULL;
        heard[0] = '\0';
        allowed = granted;
        struct run *run = new_run(4);
        allowed = -1;
        TRUE(pool_threads_are(granted));
        snprintf(wanted, sizeof wanted, "steps use %d of the 4 threads wanted", granted + 1);
        TRUE(strstr(heard, wanted) != NULL && strstr(heard, "Resource temporarily unavailable") != NULL);
        steps(run);
        TRUE(same(run));
        CHECK(maw_dump_state(run->optimizer, &json, &error));
        snprintf(in_dump, sizeof in_dump, "\"threads\": %d,\n", granted + 1);
        char *text = calloc(1, maw_bytes_size(json) + 1);
        TRUE(text != NULL);
        memcpy(text, maw_bytes_data(json), maw_bytes_size(json));
        TRUE(strstr(text, in_dump) != NULL);
        free(text);
        maw_bytes_free(json);
        free_run(run);
        TRUE(pool_threads_are(0));
    }
    heard[0] = '\0';
    struct run *run = new_run(4);
    TRUE(pool_threads_are(3) && heard[0] == '\0');
    free_run(run);
}

/* ---- signals ---- */

static pthread_t main_thread, sender;
static volatile sig_atomic_t taken, taken_by_others, stop;

static void handle(int signal) {
    (void)signal;
    taken++;
    if (!pthread_equal(pthread_self(), main_thread))
        taken_by_others++;
}

static void *send(void *nothing) {
    const struct timespec moment = {0, 20000};
    while (!stop) {
        kill(getpid(), SIGUSR1);
        nanosleep(&moment, NULL);
    }
    return nothing;
}

static void masks_are_full(const char *status) {
    unsigned long long mask = 0;
    const char *line = strstr(status, "SigBlk:\t");
    TRUE(line != NULL && sscanf(line, "SigBlk:\t%llx", &mask) == 1);
    for (int signal = 1; signal < SIGRTMIN; signal++) {
        const int is_fault = signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE || signal == SIGILL ||
                             signal == SIGTRAP || signal == SIGSYS;
        /* Of these two the kernel lets nobody be free; 32 and 33 are the C library's own. */
        if (signal != SIGKILL && signal != SIGSTOP && signal < 32)
            TRUE((mask >> (signal - 1) & 1) == !is_fault);
    }
    TRUE((mask >> (SIGRTMAX - 2) & 1) == 1); /* the last is valgrind's, under valgrind */
}

static void no_signal_of_the_host_is_taken(void) {
    struct sigaction action;
    sigset_t usr1, before, after;
    memset(&action, 0, sizeof action);
    action.sa_handler = handle;
    action.sa_flags = SA_RESTART;
    TRUE(sigaction(SIGUSR1, &action, NULL) == 0 && sigemptyset(&usr1) == 0 && sigaddset(&usr1, SIGUSR1) == 0);
    main_thread = pthread_self();
    TRUE(pthread_sigmask(SIG_BLOCK, &usr1, &before) == 0);
    TRUE(pthread_create(&sender, NULL, send, NULL) == 0);
    TRUE(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    for (int i = 0; i < 50; i++)
        destroy(prepared(4)); /* threads that begin and end are no exception */
    struct run *run = new_run(4);
    /* From here on no thread of the host can take it: the kernel asks all others. */
    TRUE(pthread_sigmask(SIG_BLOCK, &usr1, NULL) == 0);
    taken = 0;
    steps(run);
    TRUE(same(run) && taken == 0);
    TRUE(pool_threads_are(3) && look_at_threads(masks_are_full) == 3);
    TRUE(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    while (taken < 10) /* the main thread can */
        step(run);
    stop = 1;
    TRUE(pthread_join(sender, NULL) == 0 && taken_by_others == 0);
    free_run(run);
    TRUE(pthread_sigmask(SIG_BLOCK, NULL, &after) == 0 && sigismember(&after, SIGUSR1) == 0);
    TRUE(sigismember(&after, SIGTERM) == 0);
    TRUE(signal(SIGUSR1, SIG_DFL) != SIG_ERR);
}

int main(void) {
    alarm(SECONDS); /* for one that hangs */
    alone = new_run(1);
    steps(alone);
    optimizers_share_a_pool_which_ends_with_the_last();
    callers_share_a_pool_without_harm();
    pools_come_and_go_in_several_threads();
    refused_threads_are_told_of_and_the_others_used();
    no_signal_of_the_host_is_taken();
    free_run(alone);
    puts("pools: ok");
    return EXIT_SUCCESS;
}
