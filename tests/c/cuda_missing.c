/* A C program that asks for CUDA where there may be no suitable driver or device, and prints the errors. Outputs of
 * failed calls stay untouched, and the CPU works as usual. */
#include <metaadamw.h>

#include <stdio.h>
#include <stdlib.h>

static void print(const char *what, maw_status status, maw_error *error) {
    if (status != maw_error_code(error))
        exit(EXIT_FAILURE);
    printf("%s: %s: %s\n", what, maw_status_name(status), maw_error_message(error));
    maw_error_free(error);
}

int main(void) {
    maw_error *error = NULL;
    maw_optimizer *optimizer = NULL;
    maw_device_buffer *buffer = NULL;
    maw_options options;
    maw_options_init(&options, sizeof options);
    options.device = MAW_CUDA;
    printf("available: %u\n", maw_cuda_available());
    for (int again = 0; again < 2; again++) {
        maw_status status = maw_optimizer_create(&options, &optimizer, &error);
        print("optimizer", status, error);
        if ((status == MAW_OK) != (optimizer != NULL))
            return EXIT_FAILURE;
        maw_optimizer_free(optimizer);
        optimizer = NULL;
        status = maw_device_buffer_create(0, 16, &buffer, &error);
        print("buffer", status, error);
        if ((status == MAW_OK) != (buffer != NULL))
            return EXIT_FAILURE;
        maw_device_buffer_free(buffer);
        buffer = NULL;
    }
    options.device = MAW_CPU;
    if (maw_optimizer_create(&options, &optimizer, &error) != MAW_OK || maw_optimizer_free(optimizer) != MAW_OK)
        return EXIT_FAILURE;
    return EXIT_SUCCESS;
}
