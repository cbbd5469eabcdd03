// binds the index work: NumPy in, NumPy out, the GIL released in between
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <utility>

#include "csr.h"

namespace py = pybind11;

namespace {

// no forcecast: an int64 array is refused rather than truncated
using Array = py::array_t<int32_t, py::array::c_style>;

Array as_array(const char* name, const py::array& given) {
  if (given.ndim() != 1 || !given.dtype().is(py::dtype::of<int32_t>())) {
    throw py::value_error(std::string(name) + " must be a one-dimensional int32 array, got " + std::to_string(given.ndim()) +
                          " dimensions of " + py::str(given.dtype()).cast<std::string>());
  }
  return Array::ensure(given);
}

efcn::Span span(const Array& array) { return {array.data(), array.size()}; }

// hands the vector's memory to NumPy without a copy
Array to_numpy(efcn::Indices&& values) {
  auto owner = std::make_unique<efcn::Indices>(std::move(values));
  efcn::Indices* kept = owner.get();
  py::capsule release(owner.release(), [](void* p) { delete static_cast<efcn::Indices*>(p); });
  return Array(static_cast<py::ssize_t>(kept->size()), kept->data(), release);
}

template <class Compute>
auto without_gil(const Compute& compute) {
  const py::gil_scoped_release release;
  return compute();
}

py::tuple compress(int64_t out_sites, int64_t in_sites, const py::array& row, const py::array& col) {
  const Array rows = as_array("row", row), cols = as_array("col", col);
  const efcn::Span r = span(rows), c = span(cols);
  efcn::Compressed made = without_gil([&] { return efcn::compress(out_sites, in_sites, r, c); });
  return py::make_tuple(to_numpy(std::move(made.csr.start)), to_numpy(std::move(made.csr.column)), to_numpy(std::move(made.block)));
}

py::tuple transpose(int64_t in_sites, const py::array& crow, const py::array& col) {
  const Array start = as_array("crow", crow), column = as_array("col", col);
  const efcn::Span s = span(start), c = span(column);
  efcn::Transposed made = without_gil([&] { return efcn::transpose(in_sites, s, c); });
  return py::make_tuple(to_numpy(std::move(made.csr.start)), to_numpy(std::move(made.csr.column)), to_numpy(std::move(made.block)));
}

void check(int64_t in_sites, const py::array& crow, const py::array& col) {
  const Array start = as_array("crow", crow), column = as_array("col", col);
  const efcn::Span s = span(start), c = span(column);
  const py::gil_scoped_release release;
  efcn::check(in_sites, s, c);
}

}  // namespace

PYBIND11_MODULE(_csr, m) {
  m.doc() = "Block patterns as CSR arrays: built, transposed and checked in linear time.";
  m.def("compress", &compress, py::arg("out_sites"), py::arg("in_sites"), py::arg("row"), py::arg("col"),
        "(row, col) pairs, in any order and repeated at will -> (crow, col, block): sorted distinct columns per row, and the block number "
        "of each pair. Raises ValueError naming an index that is out of range.");
  m.def("transpose", &transpose, py::arg("in_sites"), py::arg("crow"), py::arg("col"),
        "(tcrow, tcol, tblock): for each input site its output sites, ascending, and their block numbers. Raises ValueError for an "
        "invalid pattern.");
  m.def("check", &check, py::arg("in_sites"), py::arg("crow"), py::arg("col"),
        "Raises ValueError unless (crow, col) is CSR with columns in range and strictly ascending within each row.");
}
