// Memory of what Python's callers are given: theirs for as long as they like, then that of the next
// result of this size. fastgan/host/results.py is its only user.
//
// malloc would not do: glibc cuts aligned memory from a larger piece, and does not put what is left
// at its ends back together with it, so that the next call finds no room there, and takes new pages.
#include "results.h"

#include <iterator>
#include <list>
#include <new>
#include <utility>

#include "memory.h"

namespace py = pybind11;

namespace fastgan {
namespace {

// What is kept of results that are gone, in all.
constexpr int64_t kKept = 32 << 20;

// Python's lock is held wherever these are used: by whoever forks, too.
struct Kept {
  std::list<Block> blocks;  // the longest kept first
  int64_t bytes = 0;

  Block take(int64_t size) {
    for (auto each = blocks.rbegin(); each != blocks.rend(); ++each) {
      if (each->bytes() != size) continue;
      Block found = std::move(*each);
      blocks.erase(std::next(each).base());
      bytes -= size;
      return found;
    }
    return Block(size);
  }

  void give(Block block) {
    if (block.bytes() > kKept) return;
    bytes += block.bytes();
    blocks.push_back(std::move(block));
    while (bytes > kKept) {
      bytes -= blocks.front().bytes();
      blocks.pop_front();
    }
  }
};

// Never destroyed: tensors may outlive what C++ destroys at the end.
Kept& kept() {
  static Kept* const all = new Kept;
  return *all;
}

struct Result {
  Block block;

  explicit Result(int64_t bytes) : block(kept().take(bytes)) {}
  Result(const Result&) = delete;
  ~Result() {
    try {
      kept().give(std::move(block));
    } catch (const std::bad_alloc&) {  // of the list: then it is not kept
    }
  }
};

}  // namespace

void bind_results(py::module_& module) {
  py::class_<Result>(module, "Result", py::buffer_protocol(), "Memory of so many bytes.")
      .def(py::init<int64_t>(), py::arg("bytes"))
      .def_static("kept", [] { return kept().bytes; }, "Bytes that wait for the next ones.")
      .def_buffer([](Result& result) {
        return py::buffer_info(reinterpret_cast<uint8_t*>(result.block.data()),
                               result.block.bytes());
      });
  module.attr("RESULTS_KEPT") = kKept;
}

}  // namespace fastgan
