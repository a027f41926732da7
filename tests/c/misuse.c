/* Runs every row, and compares the rows with the header: a function, or one of its pointers, without a row makes the
 * program fail. c_api.rs generates functions.inc from the header. */
#include "misuse.h"

static size_t rows;
static struct wanted {
    const char *function, *theme;
    size_t rows;
    uint32_t seen; /* of the theme "a row": bit -s for each status s that the function returned */
} wanted[] = {
#define WANTED(function, theme) {function, theme, 0, 0},
#include "functions.inc"
};
enum { WANTED_COUNT = sizeof wanted / sizeof *wanted };

char no_object;

/* The length of the function's name, which begins at `text`; 0 if none does. */
static size_t called(const char *text) {
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return strncmp(text, "maw_", 4) == 0 && text[length] == '(' ? length : 0;
}

static struct wanted *found(const char *call, const char *theme) {
    const char *name = call;
    while (*name != '\0' && called(name) == 0)
        name++;
    for (size_t i = 0; i < WANTED_COUNT; i++)
        if (strlen(wanted[i].function) == called(name) && strncmp(wanted[i].function, name, called(name)) == 0 &&
            strcmp(wanted[i].theme, theme) == 0)
            return &wanted[i];
    fail("functions.inc", 0, call, "the header has no such function, or it has no %s", theme);
    return NULL;
}

void covers(const char *call, const char *theme) {
    struct wanted *theme_of_call = found(call, theme);
    if (theme_of_call != NULL)
        theme_of_call->rows++;
}

static void saw(const char *call, maw_status status) {
    struct wanted *function = found(call, "a row");
    if (function != NULL)
        function->seen |= (uint32_t)1 << -status;
}

void row_begins(struct row *row, struct fixture *w, const char *call, const char *file, int line) {
    row->call = call;
    row->file = file;
    row->line = line;
    take_fingerprint(w, &row->before);
    covers(call, "a row");
    rows++;
}

void row_refused(const struct row *row, maw_status status, maw_status expected, maw_error **object, const char *says) {
    saw(row->call, status);
    if (status != expected)
        fail(row->file, row->line, row->call, "%s instead of %s", maw_status_name(status), maw_status_name(expected));
    if (object == NULL) {
        covers(row->call, "error");
    } else if (*object == NO_OBJECT) {
        fail(row->file, row->line, row->call, "*error was not set");
    } else {
        const char *message = maw_error_message(*object);
        if (maw_error_code(*object) != status)
            fail(row->file, row->line, row->call, "the error object says %s", maw_status_name(maw_error_code(*object)));
        if (message[0] == '\0' || strstr(message, says) == NULL)
            fail(row->file, row->line, row->call, "no \"%s\" in the message \"%s\"", says, message);
        maw_error_free(*object);
        *object = NO_OBJECT;
    }
}

void row_accepted(const struct row *row, struct fixture *w, maw_status status, maw_error **object) {
    w->accepted = 1;
    saw(row->call, status);
    if (*object == NO_OBJECT) {
        fail(row->file, row->line, row->call, "*error was not set");
    } else if (status != MAW_OK || *object != NULL) {
        fail(row->file, row->line, row->call, "%s: %s", maw_status_name(status), maw_error_message(*object));
        maw_error_free(*object);
    }
}

void row_unchanged(const struct row *row, struct fixture *w) {
    struct fingerprint after;
    take_fingerprint(w, &after);
    const char *what = difference(&row->before, &after);
    if (what != NULL)
        fail(row->file, row->line, row->call, "changed %s", what);
}

int main(void) {
    pointers();
    structs();
    order();
    values();
    files();
    devices();
    free_saved_run();
    for (size_t i = 0; i < WANTED_COUNT; i++)
        if (wanted[i].rows == 0)
            fail("functions.inc", 0, wanted[i].function, "there is no row for %s", wanted[i].theme);
    for (size_t i = 0; i < WANTED_COUNT; i++) /* c_api.rs compares them with the header */
        for (int status = 0; status < 32; status++)
            if (wanted[i].seen >> status & 1)
                printf("saw %s %d\n", wanted[i].function, -status);
    printf("misuse: %zu rows, %zu failures\n", rows, failures);
    return rows > 0 && failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
