// fastgan.hpp: fastgan.h for C++17: owners that close what they opened, and errors that are thrown.
//
//     fastgan::Model model("dcgan.fgb");
//     fastgan::Session session(model, {.format = FASTGAN_UINT8});      // C++20; or set fields one by one
//     std::vector<unsigned char> image = session.generate<unsigned char>({.count = 1, .seed = 7});
#ifndef FASTGAN_HPP
#define FASTGAN_HPP

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "fastgan.h"

namespace fastgan {

class Error : public std::runtime_error {
 public:
  Error(fastgan_status status, const char* text) : std::runtime_error(text), status(status) {}
  const fastgan_status status;
};

inline void check(fastgan_status status) {
  if (status != FASTGAN_OK) throw Error(status, fastgan_message());
}

class Model {
 public:
  explicit Model(const std::string& path, const fastgan_options& options = {}) {
    fastgan_model* opened = nullptr;
    check(fastgan_open(path.c_str(), &options, &opened));
    model_.reset(opened);
  }
  Model(const void* data, size_t size, const fastgan_options& options = {}) {
    fastgan_model* opened = nullptr;
    check(fastgan_open_memory(data, size, &options, &opened));
    model_.reset(opened);
  }
  fastgan_model* get() const { return model_.get(); }

  fastgan_description describe() const {
    fastgan_description found;
    check(fastgan_describe(get(), &found));
    return found;
  }
  fastgan_port input(int32_t index) const {
    fastgan_port found;
    check(fastgan_describe_input(get(), index, &found));
    return found;
  }
  fastgan_port output(int32_t index) const {
    fastgan_port found;
    check(fastgan_describe_output(get(), index, &found));
    return found;
  }

 private:
  struct Close {
    void operator()(fastgan_model* model) const { fastgan_close(model); }
  };
  std::unique_ptr<fastgan_model, Close> model_;
};

class Session {
 public:
  explicit Session(const Model& model, const fastgan_settings& settings = {}) {
    fastgan_session* prepared = nullptr;
    check(fastgan_prepare(model.get(), &settings, &prepared));
    session_.reset(prepared);
  }
  fastgan_session* get() const { return session_.get(); }

  // What it was prepared for.
  fastgan_program program() const {
    fastgan_program found;
    check(fastgan_describe_session(get(), &found, nullptr));
    return found;
  }
  uint64_t image_bytes() const {
    uint64_t found;
    check(fastgan_describe_session(get(), nullptr, &found));
    return found;
  }

  // T: unsigned char or float, as the session's format is.
  template <class T>
  std::vector<T> generate(const fastgan_request& request) {
    std::vector<T> images(image_bytes() * static_cast<uint64_t>(request.count) / sizeof(T));
    check(fastgan_generate(get(), &request, images.data(), images.size() * sizeof(T)));
    return images;
  }
  std::vector<float> latents(uint64_t seed, uint64_t start, int64_t n, double truncation = 0) {
    std::vector<float> found(fastgan_latent_size(get()) * static_cast<size_t>(n));
    check(fastgan_latents(get(), seed, start, n, truncation, found.data(),
                          found.size() * sizeof(float)));
    return found;
  }
  void set(const std::string& input, const std::vector<float>& values) {
    check(fastgan_set(get(), input.c_str(), values.data(), values.size()));
  }
  void cancel() { fastgan_cancel(get()); }

 private:
  struct Release {
    void operator()(fastgan_session* session) const { fastgan_release(session); }
  };
  std::unique_ptr<fastgan_session, Release> session_;
};

}  // namespace fastgan

#endif
