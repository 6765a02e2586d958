// CRC-32 as zlib and PNG have it.
#pragma once

#include <stdint.h>

namespace fastgan {

uint32_t crc32(const char* data, uint64_t size);

}  // namespace fastgan
