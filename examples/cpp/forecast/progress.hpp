// Prints the progress of all runs together, on one line that is overwritten on a terminal.
#pragma once

#include <time.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <mutex>

inline double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// CPU time of the calling thread, so that other work on the machine is not counted.
inline double cpu_seconds_now() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

class Progress {
  public:
    explicit Progress(std::size_t epochs) : all_(epochs) {}

    // Any thread, for epochs done by an earlier run of the program.
    void skip(std::size_t epochs) {
        std::lock_guard<std::mutex> const lock(mutex_);
        skipped_ += epochs;
        done_ += epochs;
    }

    // Any thread, after each epoch of a run.
    void epoch(char const* optimizer, std::uint64_t seed, std::size_t epoch, double train, double validation) {
        std::lock_guard<std::mutex> const lock(mutex_);
        done_++;
        if (!terminal_ && done_ * 10 / all_ == (done_ - 1) * 10 / all_)
            return;  // ten lines in a log are enough
        double const remaining = (seconds_now() - start_) / static_cast<double>(done_ - skipped_) *
                                 static_cast<double>(all_ - done_);
        std::fprintf(stderr, "%s%3zu %%  seed %llu, %-9s epoch %3zu  ", terminal_ ? "\r" : "", done_ * 100 / all_,
                     static_cast<unsigned long long>(seed), optimizer, epoch);
        std::fprintf(stderr, "MSE: train %.4f, validation %.4f  %3.0f s left  %s", train, validation, remaining,
                     terminal_ && done_ < all_ ? "" : "\n");
        std::fflush(stderr);
    }

  private:
    std::mutex mutex_;
    bool const terminal_ = isatty(STDERR_FILENO) != 0;
    double const start_ = seconds_now();
    std::size_t const all_;
    std::size_t done_ = 0, skipped_ = 0;
};
