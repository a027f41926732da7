// Prints the progress of all runs together, on one line that is overwritten on a terminal.
#pragma once

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
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
    // The work of all runs together, in any unit.
    explicit Progress(double all) : all_(all) {}

    // Any thread, for work that an earlier run of the program has done.
    void skip(double work) {
        std::lock_guard<std::mutex> const lock(mutex_);
        skipped_ += work;
        done_ += work;
    }

    // Any thread, after a piece of work; `text` says which.
    void advance(double work, char const* text) {
        std::lock_guard<std::mutex> const lock(mutex_);
        double const before = done_;
        done_ += work;
        bool const last = done_ > all_ - 1e-6 * all_;
        if (!terminal_ && !last && std::floor(10.0 * done_ / all_) <= std::floor(10.0 * before / all_))
            return;  // ten lines in a log are enough
        double const left = (seconds_now() - start_) / (done_ - skipped_) * std::max(0.0, all_ - done_);
        std::fprintf(stderr, "%s%3.0f %%  %s  %3.0f s left  %s", terminal_ ? "\r" : "",
                     std::min(100.0, std::floor(100.0 * done_ / all_ + 1e-6)), text, left,
                     terminal_ && !last ? "" : "\n");
        std::fflush(stderr);
    }

  private:
    std::mutex mutex_;
    bool const terminal_ = isatty(STDERR_FILENO) != 0;
    double const start_ = seconds_now();
    double const all_;
    double done_ = 0.0, skipped_ = 0.0;
};
