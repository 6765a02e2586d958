// The Python face of bundle.h, `fastgan._native.bundle`: fastgan/bundle/ makes a session of it.
#include "bindings.h"

#include <pybind11/stl.h>

#include <string_view>

#include "crc32.h"
#include "prepared.h"
#include "truncation.h"

namespace py = pybind11;

namespace fastgan {
namespace {

py::dict described(const Port& port) {
  py::list shape;
  for (const Size& size : port.shape) {
    if (size.length >= 0) {
      shape.append(size.length);
    } else {
      shape.append(size.name);
    }
  }
  py::dict found;
  found["name"] = port.name;
  found["kind"] = static_cast<int>(port.kind);
  found["dtype"] = port.dtype;
  found["shape"] = py::tuple(shape);
  found["distribution"] = static_cast<int>(port.distribution);
  found["classes"] = port.classes;
  found["range"] = port.ranged ? py::object(py::make_tuple(port.low, port.high)) : py::none();
  found["mean"] = port.mean;
  found["std"] = port.std;
  found["guessed"] = port.guessed;
  found["fill"] = port.fill;
  found["channels_last"] = port.channels_last;
  found["default"] = port.defaulted ? py::object(py::float_(port.value)) : py::none();
  found["rows"] = port.rows;
  return found;
}

py::list described(const std::vector<Port>& ports) {
  py::list found;
  for (const Port& port : ports) found.append(described(port));
  return found;
}

py::list described(const std::vector<ProgramTensor>& tensors) {
  py::list found;
  for (const ProgramTensor& tensor : tensors) {
    found.append(py::make_tuple(tensor.port, py::tuple(py::cast(tensor.sizes))));
  }
  return found;
}

// A program and its rooms, each of one call at a time.
struct Runner {
  std::shared_ptr<const Bundle> bundle;
  Prepared prepared;
  Spares<std::pair<int64_t, Prepared::Room>> rooms;

  Runner(std::shared_ptr<const Bundle> of, int64_t index, int64_t threads, bool bf16)
      : bundle(std::move(of)), prepared(*bundle, bundle->programs.at(index), threads, bf16) {}

  void run(const std::vector<uintptr_t>& inputs, const std::vector<uintptr_t>& outputs,
           int64_t threads) {
    const BundleProgram& program = prepared.program();
    require(inputs.size() == program.inputs.size() && outputs.size() == program.outputs.size(),
            "tensors that are not as many as the program's");
    std::vector<const float*> in;
    std::vector<float*> out;
    for (const uintptr_t at : inputs) in.push_back(reinterpret_cast<const float*>(at));
    for (const uintptr_t at : outputs) out.push_back(reinterpret_cast<float*>(at));
    auto room = rooms.take();
    if (room == nullptr || room->first != threads) {
      room.reset(new std::pair<int64_t, Prepared::Room>(threads, Prepared::Room(prepared, threads)));
    }
    prepared.run(room->second, in.data(), out.data());
    rooms.give(std::move(room));
  }
};

}  // namespace

void bind_bundle(py::module_& parent) {
  py::module_ module = parent.def_submodule("bundle", "Bundles: csrc/bundle.");
  py::register_exception<FileError>(module, "FileError", PyExc_OSError);
  py::register_exception<VersionError>(module, "VersionError", PyExc_ValueError);
  py::class_<Bundle, std::shared_ptr<Bundle>>(module, "Bundle")
      .def(py::init([](const std::string& path, int64_t most_bytes) {
             py::gil_scoped_release release;
             return std::make_shared<Bundle>(std::make_unique<File>(path.c_str()), most_bytes);
           }),
           py::arg("path"), py::arg("most_bytes"))
      .def_readonly("name", &Bundle::name)
      .def_readonly("maker", &Bundle::maker)
      .def_readonly("classes", &Bundle::classes)
      .def_readonly("made", &Bundle::made)
      .def_property_readonly("inputs", [](const Bundle& b) { return described(b.inputs); })
      .def_property_readonly("outputs", [](const Bundle& b) { return described(b.outputs); })
      .def_property_readonly("weights",
                             [](const Bundle& b) {
                               int64_t bytes = 0;
                               for (const Constant& constant : b.constants) {
                                 bytes += constant.size * static_cast<int64_t>(sizeof(float));
                               }
                               return std::make_pair(b.constants.size(), bytes);
                             },
                             "How many there are, and their bytes.")
      .def_property_readonly("programs", [](const Bundle& b) {
        py::list found;
        for (const BundleProgram& program : b.programs) {
          py::dict each;
          each["batch"] = program.batch;
          each["height"] = program.height;
          each["width"] = program.width;
          each["inputs"] = described(program.inputs);
          each["outputs"] = described(program.outputs);
          each["arena_bytes"] = program.arena * static_cast<int64_t>(sizeof(float));
          each["bf16"] = program.bf16;
          each["bytes"] = program.size;
          found.append(each);
        }
        return found;
      });
  py::class_<Runner>(module, "Runner")
      .def(py::init<std::shared_ptr<Bundle>, int64_t, int64_t, bool>(), py::arg("bundle"),
           py::arg("program"), py::arg("threads"), py::arg("bf16"),
           py::call_guard<py::gil_scoped_release>())
      .def("run", &Runner::run, py::arg("inputs"), py::arg("outputs"), py::arg("threads"),
           py::call_guard<py::gil_scoped_release>(),
           "Run on addresses of float32, row by row, as the program lists its tensors.");
  module.def("crc32", [](const py::bytes& data) {
    const std::string_view bytes = data;
    return crc32(bytes.data(), bytes.size());
  }, "The checksum of a bundle.");
  module.def("truncation", [](double limit) {
    const Parameters found = truncation(limit);
    return std::make_tuple(found.offset, found.scale, found.limit);
  }, "The parameters of a normal that is kept within a limit.");
}

}  // namespace fastgan
