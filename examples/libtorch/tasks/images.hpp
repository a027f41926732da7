// Files of labelled images of 32 x 32 pixels: CIFAR-10's binary records, and JPEGs through libjpeg (where CMake has
// found it).
#pragma once

#include "files.hpp"

#ifdef TASKS_JPEG
#include <cstdio>  // jpeglib.h needs it

#include <jpeglib.h>

#include <csetjmp>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tasks {

constexpr std::size_t image_side = 32, image_plane = image_side * image_side, image_bytes = 3 * image_plane;

class ImageFile {
  public:
    ImageFile() = default;
    ImageFile(ImageFile const&) = delete;
    ImageFile& operator=(ImageFile const&) = delete;
    virtual ~ImageFile() = default;
    [[nodiscard]] virtual std::size_t size() const = 0;
    // Writes the image as planes of red, green and blue, and returns its label.
    virtual std::int64_t read(std::size_t image, std::uint8_t* planes) const = 0;
};

// Records of a label and three planes.
class BinaryImages : public ImageFile {
  public:
    explicit BinaryImages(std::filesystem::path const& path) : name_(path.string()), bytes_(read_file(path)) {
        if (bytes_.empty() || bytes_.size() % record != 0)
            throw std::runtime_error(
                "'" + name_ + "' has " + std::to_string(bytes_.size()) +
                " bytes, not a multiple of 3073: it is cut off or no file of CIFAR-10's binary version");
        for (std::size_t i = 0; i < size(); ++i)
            if (label(i) > 9)
                throw std::runtime_error("'" + name_ + "' has the label " + std::to_string(label(i)) + " at image " +
                                         std::to_string(i) + ": it is no file of CIFAR-10's binary version");
    }
    [[nodiscard]] std::size_t size() const override { return bytes_.size() / record; }
    std::int64_t read(std::size_t image, std::uint8_t* planes) const override {
        std::copy_n(bytes_.data() + image * record + 1, image_bytes, planes);
        return label(image);
    }

  private:
    static constexpr std::size_t record = 1 + image_bytes;
    [[nodiscard]] std::uint8_t label(std::size_t image) const {
        return static_cast<std::uint8_t>(bytes_[image * record]);
    }

    std::string name_, bytes_;
};

#ifdef TASKS_JPEG
// Errors come back by longjmp, which skips no destructor in decode_jpeg.
struct JpegErrors {
    jpeg_error_mgr manager;  // first: libjpeg knows only its address
    std::jmp_buf failed;
};

// Whether the JPEG is whole and of 32 x 32 pixels.
inline bool decode_jpeg(std::string const& jpeg, std::uint8_t* planes) {
    jpeg_decompress_struct image;
    JpegErrors errors;
    image.err = jpeg_std_error(&errors.manager);
    errors.manager.output_message = [](j_common_ptr) {};
    errors.manager.error_exit = [](j_common_ptr failed) {
        std::longjmp(reinterpret_cast<JpegErrors*>(failed->err)->failed, 1);
    };
    jpeg_create_decompress(&image);
    if (setjmp(errors.failed) != 0) {
        jpeg_destroy_decompress(&image);
        return false;
    }
    jpeg_mem_src(&image, reinterpret_cast<unsigned char const*>(jpeg.data()), static_cast<unsigned long>(jpeg.size()));
    jpeg_read_header(&image, TRUE);
    image.out_color_space = JCS_RGB;
    bool whole = image.image_width == image_side && image.image_height == image_side;
    if (whole) {
        jpeg_start_decompress(&image);
        std::uint8_t row[3 * image_side];
        for (std::size_t y = 0; y < image_side; ++y) {
            std::uint8_t* rows[] = {row};
            jpeg_read_scanlines(&image, rows, 1);
            for (std::size_t x = 0; x < image_side; ++x)
                for (std::size_t colour = 0; colour < 3; ++colour)
                    planes[colour * image_plane + y * image_side + x] = row[3 * x + colour];
        }
        jpeg_finish_decompress(&image);
    }
    whole = whole && errors.manager.num_warnings == 0;
    jpeg_destroy_decompress(&image);
    return whole;
}

// JPEGs that share their header, stored once. u32 images, u16 length, header; each image: u8 label, u16 length, the
// rest of it. Numbers are little-endian. An image is decoded when it is read.
class JpegImages : public ImageFile {
  public:
    explicit JpegImages(std::filesystem::path const& path) : name_(path.string()), bytes_(read_file(path)) {
        std::size_t const images = number(0, 4);
        std::size_t at = 6;
        header_ = bytes(at, number(4, 2));
        at += header_.size();
        for (std::size_t i = 0; i < images; ++i) {
            std::size_t const label = number(at, 1);
            if (label > 9)
                throw broken("has the label " + std::to_string(label) + " at image " + std::to_string(i));
            auto const body = bytes(at + 3, number(at + 1, 2));
            images_.emplace_back(static_cast<std::int64_t>(label), body);
            at += 3 + body.size();
        }
        if (at != bytes_.size())
            throw broken("has more bytes than its " + std::to_string(images) + " images");
    }
    [[nodiscard]] std::size_t size() const override { return images_.size(); }
    std::int64_t read(std::size_t image, std::uint8_t* planes) const override {
        auto const& [label, body] = images_.at(image);
        if (!decode_jpeg(std::string(header_).append(body), planes))
            throw broken("has a damaged JPEG at image " + std::to_string(image));
        return label;
    }

  private:
    [[nodiscard]] std::runtime_error broken(std::string const& what) const {
        return std::runtime_error("'" + name_ + "' " + what);
    }
    [[nodiscard]] std::string_view bytes(std::size_t at, std::size_t count) const {
        if (at > bytes_.size() || count > bytes_.size() - at)
            throw broken("is cut off");
        return std::string_view(bytes_).substr(at, count);
    }
    [[nodiscard]] std::size_t number(std::size_t at, std::size_t size) const {
        std::size_t value = 0;
        auto const digits = bytes(at, size);
        for (std::size_t i = size; i-- > 0;)
            value = value << 8 | static_cast<std::uint8_t>(digits[i]);
        return value;
    }

    std::string name_, bytes_;
    std::string_view header_;
    std::vector<std::pair<std::int64_t, std::string_view>> images_;
};
#else
class JpegImages : public ImageFile {
  public:
    explicit JpegImages(std::filesystem::path const& path) {
        throw std::runtime_error("'" + path.string() +
                                 "' holds JPEGs: build with libjpeg (Debian: libjpeg-dev), or use " +
                                 "CIFAR-10's binary version");
    }
    [[nodiscard]] std::size_t size() const override { return 0; }
    std::int64_t read(std::size_t, std::uint8_t*) const override { return 0; }
};
#endif

}  // namespace tasks
