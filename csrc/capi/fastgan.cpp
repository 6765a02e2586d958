// fastgan.h over bundle/ and session.h: handles, and errors as status and sentence.
#include <stdio.h>
#include <string.h>

#include <new>

#include "session.h"

using fastgan::Bundle;
using fastgan::BundleProgram;
using fastgan::Failure;
using fastgan::File;
using fastgan::Session;

struct fastgan_model {
  std::shared_ptr<const Bundle> bundle;
};

struct fastgan_session {
  Session session;
};

namespace {

constexpr int64_t kMostMemory = int64_t{16} << 30;

thread_local char message[512] = "";

fastgan_status fail(fastgan_status status, const char* where, const char* text) {
  snprintf(message, sizeof message, "%s%s%s", where, *where != 0 ? ": " : "", text);
  return status;
}

// Runs work, whatever it throws.
template <class Work>
fastgan_status guarded(const char* where, const Work& work) {
  try {
    work();
    return FASTGAN_OK;
  } catch (const Failure& error) {
    return fail(error.status, where, error.text.c_str());
  } catch (const fastgan::FileError& error) {
    return fail(FASTGAN_FILE, where, error.what());
  } catch (const fastgan::VersionError& error) {
    return fail(FASTGAN_FORMAT, where, error.what());
  } catch (const std::invalid_argument& error) {
    return fail(FASTGAN_DAMAGED, where, error.what());
  } catch (const std::bad_alloc&) {
    return fail(FASTGAN_MEMORY, where, "not enough memory, or more than its limit");
  } catch (const std::exception& error) {
    return fail(FASTGAN_INTERNAL, where, error.what());
  } catch (...) {
    return fail(FASTGAN_INTERNAL, where, "an unknown error");
  }
}

// The same on a session that no other call is on.
template <class Work>
fastgan_status alone(fastgan_session* session, const Work& work) {
  if (session == nullptr) return fail(FASTGAN_ARGUMENT, "session", "NULL");
  Session& found = session->session;
  if (found.busy.exchange(true, std::memory_order_acquire)) {
    return fail(FASTGAN_BUSY, "session", "another call on it is running");
  }
  const fastgan_status status = guarded("", [&] { work(found); });
  found.busy.store(false, std::memory_order_release);
  return status;
}

fastgan_status open(const char* where, const fastgan_options* options, fastgan_model** model,
                    std::unique_ptr<File> (*make)(const void*, size_t), const void* what,
                    size_t size) {
  if (model == nullptr) return fail(FASTGAN_ARGUMENT, where, "model is NULL");
  *model = nullptr;
  if (what == nullptr) return fail(FASTGAN_ARGUMENT, where, "NULL");
  return guarded(where, [&] {
    const uint64_t limit = options == nullptr ? 0 : options->memory_limit;
    const int64_t most = limit == 0 || limit > INT64_MAX ? kMostMemory : static_cast<int64_t>(limit);
    auto bundle = std::make_shared<const Bundle>(make(what, size), most);
    *model = new fastgan_model{std::move(bundle)};
  });
}

fastgan_status describe(const std::vector<fastgan::Port>& ports, int32_t index, fastgan_port* to) {
  if (to == nullptr || index < 0 || index >= static_cast<int64_t>(ports.size())) {
    return fail(FASTGAN_ARGUMENT, "describe", "no such port");
  }
  const fastgan::Port& port = ports[index];
  *to = {};
  to->name = port.name.c_str();
  to->kind = static_cast<fastgan_kind>(port.kind);
  to->axes = static_cast<int32_t>(port.shape.size());
  for (size_t i = 0; i < port.shape.size(); ++i) to->shape[i] = port.shape[i].length;
  to->classes = port.classes;
  to->has_range = port.ranged;
  to->low = port.low, to->high = port.high;
  to->has_value = port.defaulted;
  to->value = port.value;
  return FASTGAN_OK;
}

// The program for a batch and a size.
const BundleProgram& choose(const Bundle& bundle, const fastgan_settings& settings) {
  const BundleProgram& first = bundle.programs.front();
  const int64_t height = settings.height == 0 ? first.height : settings.height;
  const int64_t width = settings.width == 0 ? first.width : settings.width;
  const BundleProgram* found = nullptr;
  std::string known;
  for (const BundleProgram& program : bundle.programs) {
    known += (known.empty() ? "" : ", ") + std::to_string(program.batch);
    if (program.height > 0) {
      known += " of " + std::to_string(program.width) + "x" + std::to_string(program.height);
    }
    if (program.height != height || program.width != width) continue;
    if (settings.batch == 0 ? found == nullptr || program.batch < found->batch
                            : program.batch == settings.batch) {
      found = &program;
    }
  }
  if (found == nullptr) {
    throw Failure{FASTGAN_MISSING,
                  "the bundle has no program for this batch or size; it has batches of " + known};
  }
  return *found;
}

}  // namespace

extern "C" {

uint32_t fastgan_version(void) { return FASTGAN_VERSION_MAJOR * 1000 + FASTGAN_VERSION_MINOR; }

const char* fastgan_message(void) { return message; }

fastgan_status fastgan_open(const char* path, const fastgan_options* options,
                            fastgan_model** model) {
  const auto make = [](const void* what, size_t) {
    return std::make_unique<File>(static_cast<const char*>(what));
  };
  return open(path == nullptr ? "path" : path, options, model, make, path, 0);
}

fastgan_status fastgan_open_memory(const void* data, size_t size, const fastgan_options* options,
                                   fastgan_model** model) {
  const auto make = [](const void* what, size_t bytes) {
    return std::make_unique<File>(what, bytes);
  };
  return open("memory", options, model, make, data, size);
}

void fastgan_close(fastgan_model* model) { delete model; }

fastgan_status fastgan_describe(const fastgan_model* model, fastgan_description* to) {
  if (model == nullptr || to == nullptr) return fail(FASTGAN_ARGUMENT, "describe", "NULL");
  const Bundle& bundle = *model->bundle;
  *to = {bundle.name.c_str(),
         bundle.maker.c_str(),
         static_cast<int32_t>(bundle.inputs.size()),
         static_cast<int32_t>(bundle.outputs.size()),
         static_cast<int32_t>(bundle.programs.size()),
         static_cast<int32_t>(bundle.classes.size()),
         static_cast<int32_t>(bundle.made)};
  return FASTGAN_OK;
}

fastgan_status fastgan_describe_input(const fastgan_model* model, int32_t index,
                                      fastgan_port* port) {
  if (model == nullptr) return fail(FASTGAN_ARGUMENT, "describe", "NULL");
  return describe(model->bundle->inputs, index, port);
}

fastgan_status fastgan_describe_output(const fastgan_model* model, int32_t index,
                                       fastgan_port* port) {
  if (model == nullptr) return fail(FASTGAN_ARGUMENT, "describe", "NULL");
  return describe(model->bundle->outputs, index, port);
}

fastgan_status fastgan_describe_program(const fastgan_model* model, int32_t index,
                                        fastgan_program* program) {
  if (model == nullptr || program == nullptr || index < 0 ||
      index >= static_cast<int64_t>(model->bundle->programs.size())) {
    return fail(FASTGAN_ARGUMENT, "describe", "no such program");
  }
  *program = Session::describe(*model->bundle, model->bundle->programs[index]);
  return FASTGAN_OK;
}

const char* fastgan_class_name(const fastgan_model* model, int32_t index) {
  if (model == nullptr || index < 0) return nullptr;
  const std::vector<std::string>& classes = model->bundle->classes;
  return index < static_cast<int64_t>(classes.size()) ? classes[index].c_str() : nullptr;
}

static const char* wrong_in(const fastgan_settings& given) {
  if (given.size != 0 && given.size < sizeof given) return "size: needed sizeof(fastgan_settings)";
  if (given.threads < 0 || given.threads > 256) return "threads: needed 0 to 256";
  if (given.batch < 0) return "batch: needed at least 0";
  if (given.height < 0 || given.width < 0) return "height, width: needed at least 0";
  const bool known = given.format == FASTGAN_FLOAT32 || given.format == FASTGAN_UINT8;
  return known ? nullptr : "format: needed FASTGAN_FLOAT32 or FASTGAN_UINT8";
}

fastgan_status fastgan_prepare(fastgan_model* model, const fastgan_settings* settings,
                               fastgan_session** session) {
  if (session == nullptr) return fail(FASTGAN_ARGUMENT, "session", "NULL");
  *session = nullptr;
  if (model == nullptr) return fail(FASTGAN_ARGUMENT, "model", "NULL");
  const fastgan_settings given = settings == nullptr ? fastgan_settings{} : *settings;
  if (const char* const wrong = wrong_in(given)) return fail(FASTGAN_ARGUMENT, "settings", wrong);
  return guarded(model->bundle->name.c_str(), [&] {
    const BundleProgram& program = choose(*model->bundle, given);
    const int64_t threads = given.threads == 0 ? 1 : given.threads;
    *session = new fastgan_session{{model->bundle, program, threads, given.format}};
  });
}

void fastgan_release(fastgan_session* session) { delete session; }

fastgan_status fastgan_describe_session(const fastgan_session* session, fastgan_program* program,
                                        uint64_t* image_bytes) {
  if (session == nullptr) return fail(FASTGAN_ARGUMENT, "session", "NULL");
  if (program != nullptr) *program = session->session.describe();
  if (image_bytes != nullptr) *image_bytes = session->session.image_bytes();
  return FASTGAN_OK;
}

size_t fastgan_latent_size(const fastgan_session* session) {
  return session == nullptr ? 0 : session->session.latent_size();
}

fastgan_status fastgan_latents(fastgan_session* session, uint64_t seed, uint64_t start, int64_t n,
                               double truncation, float* out, size_t size) {
  return alone(session, [&](Session& s) { s.latents(seed, start, n, truncation, out, size); });
}

fastgan_status fastgan_generate(fastgan_session* session, const fastgan_request* request, void* out,
                                size_t size) {
  if (request == nullptr) return fail(FASTGAN_ARGUMENT, "request", "NULL");
  return alone(session, [&](Session& s) { s.generate(*request, out, size); });
}

fastgan_status fastgan_set(fastgan_session* session, const char* input, const float* values,
                           size_t count) {
  return alone(session, [&](Session& s) { s.set(input, values, count); });
}

fastgan_status fastgan_apply(fastgan_session* session, const void* images, size_t images_size,
                             int64_t count, void* out, size_t size) {
  return alone(session,
               [&](Session& s) { s.apply(images, images_size, count, out, size); });
}

fastgan_status fastgan_apply_tiled(fastgan_session* session, const void* image, size_t image_size,
                                   int64_t height, int64_t width, int64_t pad, void* out,
                                   size_t size) {
  return alone(session, [&](Session& s) {
    s.apply_tiled(image, image_size, height, width, pad, out, size);
  });
}

fastgan_status fastgan_run(fastgan_session* session, const fastgan_tensor* inputs,
                           int32_t input_count, const fastgan_tensor* outputs,
                           int32_t output_count) {
  return alone(session,
               [&](Session& s) { s.run(inputs, input_count, outputs, output_count); });
}

void fastgan_cancel(fastgan_session* session) {
  if (session != nullptr) session->session.cancelled = true;
}

}  // extern "C"
