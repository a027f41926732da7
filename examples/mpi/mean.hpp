// The mean of what the parts of a batch gave: every process brings its own parts and gets the mean of all.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

// This process among all of MPI_COMM_WORLD.
struct Processes {
    Processes() {
        MPI_Comm_rank(MPI_COMM_WORLD, &rank);
        MPI_Comm_size(MPI_COMM_WORLD, &count);
    }
    int rank = 0, count = 1;
};

// Who adds to whom. Floating-point sums depend on it.
enum class Order {
    // MPI_Allreduce's, which may be another with each number of processes, library and network. A sum is made in one
    // place and sent to all, or made everywhere from the same pairs; so in the usual libraries all get the same bits,
    // which MPI advises but does not promise.
    mpi,
    // A balanced tree over the parts, ((0 + 1) + (2 + 3)) + …, whichever process has them: a process with parts 2 and 3
    // adds them by itself. So 1, 2 and 4 processes get the same bits.
    tree,
};

// Adds the rows of a matrix of count x length in the order of the tree, into its first row.
template <class Number>
void add_rows(Number* rows, std::size_t count, std::size_t length) {
    for (std::size_t apart = 1; apart < count; apart *= 2)
        for (std::size_t row = 0; row + apart < count; row += 2 * apart)
            for (std::size_t i = 0; i < length; i++)
                rows[row * length + i] += rows[(row + apart) * length + i];
}

inline bool power_of_two(std::size_t n) { return n > 0 && (n & (n - 1)) == 0; }

// MPI counts in int.
inline int number(std::size_t n) {
    if (n > 0x7fffffff)
        throw std::length_error(std::to_string(n) + " elements are too many for one MPI call");
    return static_cast<int>(n);
}

class Mean {
  public:
    // `parts` of all processes together, of `elements` gradients each.
    Mean(Processes const& processes, std::size_t parts, std::size_t elements, Order order)
        : order_(order), count_(static_cast<std::size_t>(processes.count)), parts_(parts), own_(parts / count_),
          first_(own_ * static_cast<std::size_t>(processes.rank)), elements_(elements),
          piece_((elements + count_ - 1) / count_), row_(piece_ * count_), rows_(own_ * row_), losses_(own_) {
        if (own_ * count_ != parts || !power_of_two(own_) || (order == Order::tree && !power_of_two(count_)))
            throw std::invalid_argument(std::to_string(parts) + " parts for " + std::to_string(count_) +
                                        " processes: each process must have 1, 2, 4, … of them, and for --order tree "
                                        "the number of processes must be 1, 2, 4, … too");
    }

    // Calls evaluate(part, gradient) for each part of this process. It returns the part's loss, and writes its gradient
    // if that is wanted, that is, if `mean_gradient`, where the mean goes, is not NULL; else it gets NULL as well.
    template <class Evaluate>
    double operator()(Evaluate evaluate, float* mean_gradient) {
        for (std::size_t part = 0; part < own_; part++)
            losses_[part] = evaluate(first_ + part, mean_gradient ? &rows_[part * row_] : nullptr);
        double const loss = sum_losses() / static_cast<double>(parts_);
        if (mean_gradient) {
            add_rows(rows_.data(), own_, row_);
            float const* const sum = sum_gradients();
            for (std::size_t i = 0; i < elements_; i++)
                mean_gradient[i] = sum[i] / static_cast<float>(parts_);
        }
        return loss;
    }

  private:
    double sum_losses() {
        add_rows(losses_.data(), own_, 1);
        if (order_ == Order::mpi) {
            MPI_Allreduce(MPI_IN_PLACE, losses_.data(), 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
            return losses_[0];
        }
        gathered_.resize(count_);
        MPI_Allgather(losses_.data(), 1, MPI_DOUBLE, gathered_.data(), 1, MPI_DOUBLE, MPI_COMM_WORLD);
        add_rows(gathered_.data(), count_, 1);
        return gathered_[0];
    }

    // Of all processes' first rows. Both ways send and receive 2 (count - 1) / count rows a process, the least that is
    // possible.
    float const* sum_gradients() {
        if (order_ == Order::mpi) {
            MPI_Allreduce(MPI_IN_PLACE, rows_.data(), number(elements_), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
            return rows_.data();
        }
        // Each process adds one piece of all rows, and sends it to all.
        received_.resize(row_);
        int const piece = number(piece_);
        MPI_Alltoall(rows_.data(), piece, MPI_FLOAT, received_.data(), piece, MPI_FLOAT, MPI_COMM_WORLD);
        add_rows(received_.data(), count_, piece_);
        MPI_Allgather(received_.data(), piece, MPI_FLOAT, rows_.data(), piece, MPI_FLOAT, MPI_COMM_WORLD);
        return rows_.data();
    }

    Order order_;
    std::size_t count_, parts_, own_, first_, elements_;
    std::size_t piece_, row_;  // elements of a piece; of a row, which is padded to `count_` whole pieces
    std::vector<float> rows_, received_;
    std::vector<double> losses_, gathered_;
};
