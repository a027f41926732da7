// Packed files: xz through liblzma (where CMake has found it), and the files in a tar archive.
#pragma once

#include "files.hpp"

#ifdef TASKS_LZMA
#include <lzma.h>
#endif

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tasks {

#ifdef TASKS_LZMA
// The content of an .xz file, at most 1 GiB.
inline std::string read_xz(std::filesystem::path const& path) {
    constexpr std::size_t most = std::size_t{1} << 30;
    constexpr std::uint64_t memory = std::uint64_t{1} << 30;
    std::string const packed = read_file(path);
    lzma_stream stream = LZMA_STREAM_INIT;
    if (lzma_stream_decoder(&stream, memory, LZMA_CONCATENATED) != LZMA_OK)
        throw std::runtime_error("liblzma cannot start");
    stream.next_in = reinterpret_cast<std::uint8_t const*>(packed.data());
    stream.avail_in = packed.size();
    std::string content;
    std::array<std::uint8_t, 1 << 16> piece;
    lzma_ret state = LZMA_OK;
    while (state == LZMA_OK && content.size() <= most) {
        stream.next_out = piece.data();
        stream.avail_out = piece.size();
        state = lzma_code(&stream, LZMA_FINISH);
        content.append(reinterpret_cast<char const*>(piece.data()), piece.size() - stream.avail_out);
    }
    lzma_end(&stream);
    if (content.size() > most)
        throw std::runtime_error("'" + path.string() + "' unpacks to more than 1 GiB");
    if (state != LZMA_STREAM_END)
        throw std::runtime_error("'" + path.string() + "' is " +
                                 (state == LZMA_BUF_ERROR      ? "cut off"
                                  : state == LZMA_FORMAT_ERROR ? "not an .xz file"
                                                               : "a damaged .xz file"));
    return content;
}
#else
inline std::string read_xz(std::filesystem::path const& path) {
    throw std::runtime_error("'" + path.string() +
                             "' is packed: build with liblzma (Debian: liblzma-dev), or unpack it");
}
#endif

// The regular files of a tar archive (ustar), by name.
inline std::map<std::string, std::string> untar(std::string_view archive, std::string const& name) {
    constexpr std::size_t block = 512;
    auto const broken = [&](char const* what) { return std::runtime_error("tar archive '" + name + "' " + what); };
    auto const text = [](std::string_view field) { return std::string(field.substr(0, field.find('\0'))); };
    auto const octal = [&](std::string_view field) {
        std::uint64_t value = 0;
        std::size_t digits = 0;
        for (char const digit : field) {
            if (digit >= '0' && digit <= '7')
                value = value * 8 + static_cast<std::uint64_t>(digit - '0'), ++digits;
            else if (digit != ' ' && digit != '\0')
                throw broken("has a number that is not octal");
        }
        if (digits == 0)
            throw broken("lacks a number");
        return value;
    };
    std::map<std::string, std::string> files;
    for (std::size_t at = 0;;) {
        if (archive.size() - at < block)
            throw broken("is cut off");
        auto const header = archive.substr(at, block);
        at += block;
        if (header.find_first_not_of('\0') == std::string_view::npos)
            return files;
        std::uint64_t sum = 0;  // with blanks in place of itself
        for (std::size_t i = 0; i < block; ++i)
            sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(header[i]);
        if (sum != octal(header.substr(148, 8)))
            throw broken("has a header with a wrong checksum");
        std::uint64_t const size = octal(header.substr(124, 12));
        if (size > archive.size() - at)
            throw broken("is cut off");
        if (char const type = header[156]; type == '0' || type == '\0')
            files[text(header.substr(0, 100))] = archive.substr(at, size);
        std::uint64_t const padded = (size + block - 1) / block * block;
        if (padded > archive.size() - at)
            throw broken("is cut off");
        at += padded;
    }
}

}  // namespace tasks
