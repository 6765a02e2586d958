// The Python face of fastgan_frames.h; fastgan/realtime/ring_*.py are its only users.
#include "frames.h"

#ifndef __linux__

void fastgan::bind_frames(pybind11::module_&) {}

#else

#include <pybind11/stl.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <tuple>

#include "include/fastgan_frames.h"

namespace py = pybind11;

namespace {

struct Failure {
  int error, number;  // of fg_error_text; errno
};

void require(int error) {
  if (error != FG_OK) throw Failure{error, errno};
}

// (width, height, channels, type, low, high, device)
using Shape = std::tuple<uint32_t, uint32_t, uint32_t, uint32_t, float, float, uint32_t>;

fg_shape shape_of(const Shape& s) {
  return {std::get<0>(s), std::get<1>(s), std::get<2>(s), std::get<3>(s), std::get<4>(s),
          std::get<5>(s), std::get<6>(s), 0,              0};
}

Shape shape_of(const fg_shape& s) {
  return {s.width, s.height, s.channels, s.type, s.low, s.high, s.device};
}

// (uuid, pool_bytes, pool_stride, memory_handle)
using Cuda = std::tuple<py::bytes, uint64_t, uint64_t, py::bytes>;

void copy_exactly(uint8_t* to, const std::string& from, size_t size, const char* name) {
  if (from.size() != size) throw py::value_error(std::string(name) + ": of another length");
  std::memcpy(to, from.data(), size);
}

fg_cuda cuda_of(const Cuda& c) {
  fg_cuda cuda = {};
  copy_exactly(cuda.device_uuid, std::get<0>(c), sizeof cuda.device_uuid, "uuid");
  cuda.pool_bytes = std::get<1>(c);
  cuda.pool_stride = std::get<2>(c);
  copy_exactly(cuda.memory_handle, std::get<3>(c), sizeof cuda.memory_handle, "memory handle");
  return cuda;
}

Cuda cuda_of(const fg_cuda& c) {
  return {py::bytes(reinterpret_cast<const char*>(c.device_uuid), sizeof c.device_uuid),
          c.pool_bytes, c.pool_stride,
          py::bytes(reinterpret_cast<const char*>(c.memory_handle), sizeof c.memory_handle)};
}

// The memory of a C-contiguous buffer, which holds exactly one frame.
void* frame_in(const py::buffer_info& info, uint64_t frame_bytes) {
  py::ssize_t stride = info.itemsize;
  for (py::ssize_t i = info.ndim - 1; i >= 0; --i) {
    if (info.shape[i] != 1 && info.strides[i] != stride) {
      throw py::value_error("frame: must be C-contiguous");
    }
    stride *= info.shape[i];
  }
  if (static_cast<uint64_t>(info.size) * info.itemsize != frame_bytes) {
    throw py::value_error("frame: holds " + std::to_string(info.size * info.itemsize) +
                          " bytes instead of " + std::to_string(frame_bytes));
  }
  return info.ptr;
}

class Writer {
 public:
  Writer(const std::string& name, const Shape& shape, uint64_t slots, uint64_t interval_ns,
         uint64_t seed, double speed, double truncation, uint64_t label, bool paused,
         const std::optional<Cuda>& on_gpu) {
    const fg_shape wanted = shape_of(shape);
    const fg_cuda cuda = on_gpu ? cuda_of(*on_gpu) : fg_cuda();
    const fg_control asked = {0,     seed,   fg_bits(speed), fg_bits(truncation),
                              label, paused, 0,              0};
    require(fg_writer_open_cuda(&writer_, name.c_str(), &wanted, slots, interval_ns, &asked,
                                on_gpu ? &cuda : nullptr));
  }
  ~Writer() { close(); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void write(const py::buffer& frame, uint64_t index, uint64_t seed, uint64_t produced_ns) {
    open();
    if (writer_.shape.device != FG_IN_SEGMENT) throw py::value_error("the frames lie on a GPU");
    const py::buffer_info info = frame.request();
    const void* pixels = frame_in(info, writer_.shape.frame_bytes);
    py::gil_scoped_release release;
    fg_writer_write(&writer_, pixels, index, seed, produced_ns);
  }

  // For frames on a GPU: the slot that the next one is to be copied to before `end`.
  uint64_t begin() {
    open();
    slot_ = fg_writer_begin(&writer_);
    return (writer_.next - 1) % writer_.slots;
  }
  void end(uint64_t index, uint64_t seed, uint64_t produced_ns) {
    open();
    if (slot_ == nullptr) throw py::value_error("no frame was begun");
    fg_writer_end(&writer_, slot_, index, seed, produced_ns);
    slot_ = nullptr;
  }

  // (seed, speed, truncation, label, paused, steps since the last call), or None if unchanged.
  std::optional<std::tuple<uint64_t, double, double, uint64_t, bool, uint64_t>> asked() {
    fg_control control;
    open();
    if (!fg_writer_asked(&writer_, &control)) return std::nullopt;
    return std::make_tuple(control.seed, fg_double(control.speed), fg_double(control.truncation),
                           control.label, control.paused != 0, control.steps);
  }

  void retire() { fg_writer_retire(&writer_); }
  bool has_readers() const {
    open();
    return fg_writer_has_readers(&writer_);
  }
  void close() { fg_writer_close(&writer_); }
  uint64_t generation() const { return writer_.generation; }
  bool took_over() const { return writer_.took_over; }

 private:
  void open() const {
    if (writer_.header == nullptr) throw py::value_error("the ring is closed");
  }
  fg_writer writer_;
  fg_slot* slot_ = nullptr;
};

class Reader {
 public:
  // on_gpu: whether the caller can open frames on a GPU, which are its own to copy.
  Reader(const std::string& name, const std::optional<Shape>& expected, bool controls,
         bool on_gpu) {
    const fg_shape wanted = expected ? shape_of(*expected) : fg_shape();
    require(fg_reader_open(&reader_, name.c_str(), expected ? &wanted : nullptr, controls));
    if (!on_gpu && reader_.shape.device == FG_ON_CUDA) {
      close();
      throw Failure{FG_ON_GPU, 0};
    }
  }
  ~Reader() { close(); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // (sequence, skipped, index, seed, generation, produced_ns, published_ns), or None in time.
  std::optional<std::tuple<uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t>>
  next(const std::optional<py::buffer>& pixels, bool every, uint64_t timeout_ns) {
    fg_frame frame;
    int error;
    open();
    if (!pixels && reader_.shape.device == FG_IN_SEGMENT) throw py::value_error("frame: missing");
    const py::buffer_info info = pixels ? pixels->request(true) : py::buffer_info();
    void* target = pixels ? frame_in(info, reader_.shape.frame_bytes) : nullptr;
    {
      py::gil_scoped_release release;
      error = fg_reader_next(&reader_, target, &frame, every ? FG_EVERY : FG_NEWEST, timeout_ns);
    }
    if (error == FG_TIMEOUT) return std::nullopt;
    require(error);
    return std::make_tuple(frame.sequence, frame.skipped, frame.index, frame.seed,
                           frame.generation, frame.produced_ns, frame.published_ns);
  }

  Cuda cuda() const {
    fg_cuda found;
    open();
    require(fg_reader_cuda(&reader_, &found));
    return cuda_of(found);
  }
  bool holds(uint64_t sequence) const {
    open();
    return sequence > 0 && fg_reader_holds(&reader_, sequence);
  }

  void ask(int control, uint64_t value) {
    open();
    require(fg_reader_ask(&reader_, control, value));
  }

  void close() { fg_reader_close(&reader_); }
  Shape shape() const { return shape_of(reader_.shape); }
  uint64_t slots() const { return reader_.slots; }
  bool alive() const {
    open();
    return fg_reader_is_alive(&reader_);
  }
  uint64_t process() const {
    open();
    return fg_load_relaxed(&reader_.header->process);
  }
  uint64_t interval_ns() const {
    open();
    return fg_load_relaxed(&reader_.header->interval_ns);
  }

 private:
  void open() const {
    if (reader_.header == nullptr) throw py::value_error("the ring is closed");
  }
  fg_reader reader_ = FG_READER_NONE;
};

}  // namespace

void fastgan::bind_frames(py::module_& module) {
  // args: the code of fg_error_text, its text, errno.
  static py::handle failure =
      py::exception<Failure>(module, "FramesError", PyExc_RuntimeError).release();
  py::register_exception_translator([](std::exception_ptr raised) {
    try {
      if (raised) std::rethrow_exception(raised);
    } catch (const Failure& found) {
      const py::tuple args = py::make_tuple(found.error, fg_error_text(found.error), found.number);
      PyErr_SetObject(failure.ptr(), args.ptr());
    }
  });
  module.attr("FRAMES_ERRORS") = std::map<std::string, int>{
      {"ended", FG_ENDED},          {"no ring", FG_NO_RING},         {"not ready", FG_NOT_READY},
      {"not a ring", FG_NOT_A_RING}, {"version", FG_VERSION_DIFFERS}, {"shape", FG_SHAPE_DIFFERS},
      {"taken", FG_TAKEN},          {"damaged", FG_DAMAGED},         {"bad name", FG_BAD_NAME},
      {"bad shape", FG_BAD_SHAPE},  {"read only", FG_READ_ONLY},     {"on gpu", FG_ON_GPU},
      {"system", FG_SYSTEM}};
  module.attr("FRAMES_CONTROLS") = std::map<std::string, int>{
      {"seed", FG_SEED},   {"speed", FG_SPEED},   {"truncation", FG_TRUNCATION},
      {"label", FG_LABEL}, {"paused", FG_PAUSED}, {"steps", FG_STEPS}};
  py::class_<Writer>(module, "FramesWriter")
      .def(py::init<const std::string&, const Shape&, uint64_t, uint64_t, uint64_t, double, double,
                    uint64_t, bool, const std::optional<Cuda>&>(),
           py::arg("name"), py::arg("shape"), py::arg("slots"), py::arg("interval_ns"),
           py::arg("seed"), py::arg("speed"), py::arg("truncation"), py::arg("label"),
           py::arg("paused"), py::arg("cuda") = std::nullopt)
      .def("write", &Writer::write)
      .def("begin", &Writer::begin)
      .def("end", &Writer::end)
      .def("asked", &Writer::asked)
      .def("retire", &Writer::retire)
      .def("has_readers", &Writer::has_readers)
      .def("close", &Writer::close)
      .def_property_readonly("generation", &Writer::generation)
      .def_property_readonly("took_over", &Writer::took_over);
  py::class_<Reader>(module, "FramesReader")
      .def(py::init<const std::string&, const std::optional<Shape>&, bool, bool>(),
           py::arg("name"), py::arg("expected"), py::arg("controls"), py::arg("on_gpu") = false)
      .def("next", &Reader::next)
      .def("holds", &Reader::holds)
      .def_property_readonly("cuda", &Reader::cuda)
      .def("ask", &Reader::ask)
      .def("close", &Reader::close)
      .def_property_readonly("shape", &Reader::shape)
      .def_property_readonly("slots", &Reader::slots)
      .def_property_readonly("alive", &Reader::alive)
      .def_property_readonly("process", &Reader::process)
      .def_property_readonly("interval_ns", &Reader::interval_ns);
}

#endif
