/* A handle with four threads is created before a fork. The child, which has none of the threads, must make the parent's
 * next step with the same bits and must be able to free the handle. A process that hangs is killed by an alarm. */
#include <metaadamw.h>

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LENGTH = 300000, SECONDS = 60, FORKS = 20 }; /* a step uses its threads from 262,144 elements on */

static float values[LENGTH], grads[LENGTH], of_the_child[LENGTH];

static void check(int right, const char *what) {
    if (!right) {
        fprintf(stderr, "fork.c: %s\n", what);
        _exit(EXIT_FAILURE);
    }
}

static maw_optimizer *make_optimizer(void) {
    static const uint64_t length[] = {LENGTH};
    maw_optimizer *optimizer = NULL;
    maw_options options;
    maw_param_group group;
    maw_tensor tensor;
    check(maw_options_init(&options, sizeof options) == MAW_OK, "options");
    options.threads = 4;
    check(maw_optimizer_create(&options, &optimizer, NULL) == MAW_OK, "create");
    check(maw_param_group_init(&group, sizeof group) == MAW_OK, "group");
    check(maw_tensor_init(&tensor, sizeof tensor) == MAW_OK, "tensor");
    tensor.name = "mlp.weight";
    tensor.shape = length;
    tensor.ndim = 1;
    check(maw_add_param_group(optimizer, &group, &tensor, 1, NULL, NULL) == MAW_OK, "add");
    return optimizer;
}

static void step(maw_optimizer *optimizer) {
    void *params[] = {values};
    const void *gradients[] = {grads};
    check(maw_step(optimizer, params, gradients, 1, NULL, NULL, NULL) == MAW_OK, "step");
}

/* All bytes through the pipe, whatever the size of its buffer. */
static void send(int pipe, const char *bytes, size_t count) {
    while (count > 0) {
        ssize_t sent = write(pipe, bytes, count);
        check(sent > 0, "write");
        bytes += sent, count -= (size_t)sent;
    }
}

static void receive(int pipe, char *bytes, size_t count) {
    while (count > 0) {
        ssize_t got = read(pipe, bytes, count);
        check(got > 0, "the child ended or hung before it had sent its parameters");
        bytes += got, count -= (size_t)got;
    }
}

/* gcc 12's AddressSanitizer holds no lock of its allocator over a fork: a child of a process whose other threads allocate at
 * that moment, such as those that are just starting, waits for that lock for ever. So there all threads must sleep. */
#ifdef __SANITIZE_ADDRESS__
enum { THREADS_MAY_RUN = 0 };

static int others_sleep(void) {
    DIR *threads = opendir("/proc/self/task");
    const struct dirent *entry;
    int sleep = 1;
    check(threads != NULL, "opendir");
    while ((entry = readdir(threads)) != NULL) {
        char path[300], line[300] = "";
        FILE *file;
        if (entry->d_name[0] == '.' || atol(entry->d_name) == (long)getpid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%.200s/stat", entry->d_name);
        file = fopen(path, "r");
        if (file == NULL)
            continue; /* it has ended */
        sleep &= fgets(line, sizeof line, file) != NULL && strstr(line, ") S ") != NULL;
        fclose(file);
    }
    closedir(threads);
    return sleep;
}

static void before_fork(void) {
    const struct timespec pause = {0, 1000000};
    while (!others_sleep())
        nanosleep(&pause, NULL);
}
#else
enum { THREADS_MAY_RUN = 1 };

static void before_fork(void) {}
#endif

/* ---- a thread that is inside a call while another one forks ---- */

static int entered[2], leave[2];

/* Runs inside maw_step, in a thread that the child does not have. */
static void hold(int32_t level, const char *message, void *user_data) {
    char byte = 0;
    (void)level, (void)message, (void)user_data;
    send(entered[1], &byte, 1);
    receive(leave[0], &byte, 1);
}

static void *skipped_step(void *optimizer) {
    static float nan_grads[LENGTH];
    void *params[] = {values};
    const void *gradients[] = {nan_grads};
    nan_grads[7] = (float)NAN;
    check(maw_step(optimizer, params, gradients, 1, NULL, NULL, NULL) == MAW_OK, "a skipped step");
    return NULL;
}

static void fork_inside_a_call(void) {
    maw_optimizer *optimizer = make_optimizer();
    void *params[] = {values};
    const void *gradients[] = {grads};
    pthread_t thread;
    char byte = 0;
    int status = 0;
    step(optimizer);
    check(pipe(entered) == 0 && pipe(leave) == 0, "pipe");
    check(maw_set_log(optimizer, hold, NULL, NULL) == MAW_OK, "set_log");
    check(pthread_create(&thread, NULL, skipped_step, optimizer) == 0, "pthread_create");
    receive(entered[0], &byte, 1);
    before_fork();
    const pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        maw_error *error = NULL;
        check(maw_step(optimizer, params, gradients, 1, NULL, NULL, &error) == MAW_INVALID_STATE, "it is no busy handle");
        check(strstr(maw_error_message(error), "forked") != NULL, maw_error_message(error));
        maw_error_free(error);
        check(maw_meta_due(optimizer) == 0, "due");
        check(maw_optimizer_free(optimizer) == MAW_OK, "it can be freed");
        optimizer = make_optimizer();
        step(optimizer);
        check(maw_optimizer_free(optimizer) == MAW_OK, "one of the child's own");
        _exit(EXIT_SUCCESS);
    }
    check(maw_step(optimizer, params, gradients, 1, NULL, NULL, NULL) == MAW_BUSY, "here it is busy");
    check(maw_optimizer_free(optimizer) == MAW_BUSY, "and not freed");
    check(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child failed");
    send(leave[1], &byte, 1);
    check(pthread_join(thread, NULL) == 0, "pthread_join");
    check(maw_set_log(optimizer, NULL, NULL, NULL) == MAW_OK, "set_log");
    step(optimizer);
    check(maw_optimizer_free(optimizer) == MAW_OK, "free");
}

/* ---- a pool that optimizers of both sides use, and forks while threads are at work in it ---- */

static volatile int enough;

/* A model of its own, since `values` and `grads` are the forking thread's. */
static void *many_steps(void *optimizer) {
    static float own[LENGTH];
    void *params[] = {own};
    const void *gradients[] = {grads};
    while (!enough)
        check(maw_step(optimizer, params, gradients, 1, NULL, NULL, NULL) == MAW_OK, "a step beside forks");
    return NULL;
}

static void fork_beside_steps(void) {
    maw_optimizer *busy = make_optimizer(), *optimizer = make_optimizer(), *unused = make_optimizer();
    pthread_t thread;
    step(optimizer);
    check(pthread_create(&thread, NULL, many_steps, busy) == 0, "pthread_create");
    for (int i = 0; i < FORKS; i++) {
        int status = 0;
        const pid_t child = fork();
        check(child >= 0, "fork");
        if (child == 0) {
            alarm(SECONDS);
            check(maw_optimizer_free(unused) == MAW_OK, "free in the child");
            maw_optimizer *own = make_optimizer(), *second = make_optimizer(); /* with a pool of the child's */
            step(own);
            check(maw_optimizer_free(own) == MAW_OK, "free one of the child's");
            step(optimizer);
            step(second);
            check(maw_optimizer_free(optimizer) == MAW_OK, "free one of the parent's");
            check(maw_optimizer_free(second) == MAW_OK, "free the last of the child's");
            _exit(EXIT_SUCCESS);
        }
        step(optimizer);
        check(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child failed");
    }
    enough = 1;
    check(pthread_join(thread, NULL) == 0, "pthread_join");
    check(maw_optimizer_free(optimizer) == MAW_OK && maw_optimizer_free(unused) == MAW_OK, "free");
    check(maw_optimizer_free(busy) == MAW_OK, "free the last");
}

int main(void) {
    int pipes[2], status = 0;
    for (int i = 0; i < LENGTH; i++)
        values[i] = (float)(i % 1000) * 1e-3f, grads[i] = (float)(i * 37 % 1009) * 1e-3f - 0.5f;
    maw_optimizer *optimizer = make_optimizer();
    step(optimizer);
    check(pipe(pipes) == 0, "pipe");
    before_fork();
    const pid_t child = fork();
    check(child >= 0, "fork");
    alarm(SECONDS); /* a child does not inherit it */
    for (int i = 0; i < 3; i++)
        step(optimizer);
    if (child == 0) {
        maw_optimizer_free(optimizer);
        maw_optimizer *other = make_optimizer(); /* created in the child, it has threads */
        memcpy(of_the_child, values, sizeof values);
        step(other);
        maw_optimizer_free(other);
        send(pipes[1], (const char *)of_the_child, sizeof of_the_child);
        _exit(EXIT_SUCCESS);
    }
    close(pipes[1]);
    receive(pipes[0], (char *)of_the_child, sizeof of_the_child);
    check(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child failed");
    check(memcmp(values, of_the_child, sizeof values) == 0, "parent and child differ");
    step(optimizer); /* the child's exit does not affect the parent */
    maw_optimizer_free(optimizer);
    fork_inside_a_call();
    if (THREADS_MAY_RUN)
        fork_beside_steps();
    return EXIT_SUCCESS;
}
