// As mean.hpp, but of the mean gradient every process gets its own piece only: half of what an all-reduce sends.
#pragma once

#include <mpi.h>

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "cut.hpp"
#include "mean.hpp"

class PieceOfMean {
  public:
    // With Order::tree any number of processes makes the same bits: a process sends the gradient of each of its parts
    // as it is, and whoever has the piece adds all parts in the tree's order.
    PieceOfMean(Processes const& processes, std::size_t parts, Cut const& cut, Order order)
        : order_(order), cut_(cut), rank_(static_cast<std::size_t>(processes.rank)) {
        auto const count = static_cast<std::size_t>(processes.count);
        if (!power_of_two(parts) || parts < count)
            throw std::invalid_argument("--parts: expected 1, 2, 4, … and no less than the " + std::to_string(count) +
                                        " processes, got " + std::to_string(parts));
        for (std::size_t rank = 0; rank <= count; rank++)
            first_part_.push_back(number(rank * parts / count));
        for (std::size_t rank = 0; rank < count; rank++)
            parts_of_.push_back(first_part_[rank + 1] - first_part_[rank]);
        own_ = static_cast<std::size_t>(parts_of_[rank_]);
        losses_.resize(parts);
        rows_.resize(own_ * cut.elements());
        if (order == Order::tree)
            received_.resize(parts * cut.length());
    }

    // As Mean's. `piece`: where this process's piece of the mean gradient goes, NULL perhaps if it has no elements.
    template <class Evaluate>
    double operator()(Evaluate evaluate, bool wants_gradient, float* piece) {
        auto const first = static_cast<std::size_t>(first_part_[rank_]);
        for (std::size_t part = 0; part < own_; part++)
            losses_[first + part] = evaluate(first + part, wants_gradient ? &rows_[part * cut_.elements()] : nullptr);
        MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, losses_.data(), parts_of_.data(), first_part_.data(),
                       MPI_DOUBLE, MPI_COMM_WORLD);
        auto const parts = losses_.size();
        add_rows(losses_.data(), parts, 1);
        if (wants_gradient) {
            if (order_ == Order::mpi)
                scatter(piece);
            else
                exchange(parts, piece);
            for (std::size_t i = 0; i < cut_.length(); i++)
                piece[i] /= static_cast<float>(parts);
        }
        return losses_[0] / static_cast<double>(parts);
    }

    // Of gradients that this process keeps.
    std::size_t bytes() const { return sizeof(float) * (rows_.size() + received_.size()); }

  private:
    void scatter(float* piece) {
        add_rows(rows_.data(), own_, cut_.elements());
        MPI_Reduce_scatter(rows_.data(), piece, cut_.lengths_of.data(), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    }

    void exchange(std::size_t parts, float* piece) {
        std::vector<MPI_Request> requests;
        auto const one_more = [&] { return &requests.emplace_back(); };
        requests.reserve(parts + own_ * parts_of_.size());
        int const length = number(cut_.length());
        for (int rank = 0; rank < static_cast<int>(parts_of_.size()); rank++) {
            for (int part = first_part_[rank]; part < first_part_[rank + 1]; part++)
                MPI_Irecv(received_.data() + part * cut_.length(), length, MPI_FLOAT, rank, part, MPI_COMM_WORLD,
                          one_more());
            for (std::size_t part = 0; part < own_; part++)
                MPI_Isend(rows_.data() + part * cut_.elements() + cut_.borders[rank], cut_.lengths_of[rank], MPI_FLOAT,
                          rank, first_part_[rank_] + static_cast<int>(part), MPI_COMM_WORLD, one_more());
        }
        MPI_Waitall(number(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
        add_rows(received_.data(), parts, cut_.length());
        std::copy_n(received_.begin(), cut_.length(), piece);
    }

    Order order_;
    Cut const& cut_;
    std::size_t rank_, own_ = 0;                 // own_: parts of this process
    std::vector<int> first_part_{}, parts_of_{};  // of each process
    std::vector<double> losses_{};                // of all parts
    std::vector<float> rows_{};                   // the gradients of own parts
    std::vector<float> received_{};               // this process's piece of the gradients of all parts
};
