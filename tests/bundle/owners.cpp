// The C++ face: what is opened closes itself, and errors are thrown.
#include <fastgan.hpp>

#include <cstdio>

int main(int, char** arguments) {
  try {
    fastgan::Model missing("/no/such/file.fgb");
    return 1;
  } catch (const fastgan::Error& error) {
    if (error.status != FASTGAN_FILE) return 2;
  }
  fastgan::Model model(arguments[1]);
  fastgan_settings settings{};
  settings.format = FASTGAN_UINT8;
  fastgan::Session session(model, settings);
  fastgan_request request{};
  request.count = 2;
  request.seed = 11;
  const auto images = session.generate<unsigned char>(request);
  if (session.latents(11, 0, 2).empty()) return 3;
  std::fwrite(images.data(), 1, images.size(), stdout);
  return 0;
}
