// Twin of compiler/rows.py: RMS norm and int8 quantisation of rows into activation panels.
#include <cmath>

#include "vector.h"

constexpr int BLOCK = 32, VECTORS = 16 / LANES;  // 16 lanes, in one register or two

struct Sixteen { Floats v[VECTORS]; };

static INLINE Sixteen load16(const uint8_t* p) {
  Sixteen x;
  for (int i = 0; i < VECTORS; i++) x.v[i] = load_f32(p + 4 * LANES * i);
  return x;
}

static INLINE float sum(__m128 x) {
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

static INLINE int32_t sum(__m128i x) {
  x = _mm_add_epi32(x, _mm_unpackhi_epi64(x, x));
  return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 1)));
}

static INLINE int32_t largest(__m256i x) {
  __m128i y = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  y = _mm_max_epi32(y, _mm_unpackhi_epi64(y, y));
  return _mm_cvtsi128_si32(_mm_max_epi32(y, _mm_shuffle_epi32(y, 1)));
}

static INLINE __m256 upper(__m256 x) { return _mm256_castps128_ps256(_mm256_extractf128_ps(x, 1)); }

static INLINE float sum(const Sixteen& x) {
#if defined(TWIN_VNNI)
  __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x.v[0]), _mm512_extractf32x8_ps(x.v[0], 1));
#else
  __m256 a = _mm256_add_ps(x.v[0], x.v[1]);
#endif
  return sum(_mm_add_ps(_mm256_castps256_ps128(a), _mm256_castps256_ps128(upper(a))));
}

// Codes of 16 numbers to memory; their sum.
static INLINE int32_t quantise(const Sixteen& x, float inverse, uint8_t* codes) {
#if defined(TWIN_VNNI)
  __m512i c = _mm512_cvtps_epi32(mul(x.v[0], splat_f32(inverse)));
  _mm_storeu_si128((__m128i*)codes, _mm512_cvtepi32_epi8(c));
  __m256i a = _mm256_add_epi32(_mm512_castsi512_si256(c), _mm512_extracti64x4_epi64(c, 1));
#else
  __m256i low = _mm256_cvtps_epi32(mul(x.v[0], splat_f32(inverse)));
  __m256i high = _mm256_cvtps_epi32(mul(x.v[1], splat_f32(inverse)));
  __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
  _mm_storeu_si128((__m128i*)codes, _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  __m256i a = _mm256_add_epi32(low, high);
#endif
  return sum(_mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
}

static INLINE float largest_magnitude(const Sixteen* x) {
#if defined(TWIN_VNNI)
  __m512i mask = splat_i32(0x7FFFFFFF);
  __m512i a = _mm512_max_epi32(both(_mm512_castps_si512(x[0].v[0]), mask), both(_mm512_castps_si512(x[1].v[0]), mask));
  int32_t bits = largest(_mm256_max_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1)));
#else
  __m256i mask = splat_i32(0x7FFFFFFF), m[4];
  for (int i = 0; i < 4; i++) m[i] = both(_mm256_castps_si256(x[i / 2].v[i % 2]), mask);
  int32_t bits = largest(_mm256_max_epi32(_mm256_max_epi32(m[0], m[1]), _mm256_max_epi32(m[2], m[3])));
#endif
  return f32_at(&bits);
}

template <int P>
static void norm_quantise(const int64_t* args, int64_t begin, int64_t end) {
  const uint8_t *x = (const uint8_t*)args[0], *weight = (const uint8_t*)args[5];
  uint8_t* out = (uint8_t*)args[3];
  const int64_t x_row_bytes = args[1], num_blocks = args[2], panel_bytes = args[4];
  const float eps = f32_at(&args[6]), inverse_k = f32_at(&args[7]);
  for (int64_t row = begin; row < end; row++) {
    const uint8_t* from = x + row * x_row_bytes;
    uint8_t* panel = out + row / P * panel_bytes;
    Sixteen total;
    for (int i = 0; i < VECTORS; i++) total.v[i] = zero_f32();
    for (int64_t at = 0; at < 128 * num_blocks; at += 64) {
      Sixteen part = load16(from + at);
      for (int i = 0; i < VECTORS; i++) total.v[i] = fma(part.v[i], part.v[i], total.v[i]);
    }
    const Floats factor = splat_f32(1.0f / std::sqrt(sum(total) * inverse_k + eps));
    for (int64_t b = 0; b < num_blocks; b++, panel += 64 * P) {
      Sixteen halves[2];
      for (int h = 0; h < 2; h++) {
        Sixteen part = load16(from + 128 * b + 64 * h), w = load16(weight + 128 * b + 64 * h);
        for (int i = 0; i < VECTORS; i++) halves[h].v[i] = mul(mul(part.v[i], factor), w.v[i]);
      }
      const float top = largest_magnitude(halves), scale = top * (1.0f / 127.0f);
      const float inverse = top > 0 ? 127.0f / top : 0.0f;
      int32_t sums[2];
      for (int h = 0; h < 2; h++) sums[h] = quantise(halves[h], inverse, panel + BLOCK * (row % P) + 16 * h);
      const int32_t whole = sums[0] + sums[1];
      const float floats[4] = {scale, scale * (float)whole, scale * (float)sums[0], scale * (float)sums[1]};
      uint8_t* words = panel + BLOCK * P + 4 * (row % P);
      std::memcpy(words, &floats[0], 4);
      std::memcpy(words + 4 * P, &floats[1], 4);
      std::memcpy(words + 8 * P, &whole, 4);
      std::memcpy(words + 12 * P, &floats[2], 4);
      std::memcpy(words + 16 * P, &floats[3], 4);
      std::memcpy(words + 20 * P, &sums[0], 4);
      std::memcpy(words + 24 * P, &sums[1], 4);
    }
  }
}

// -DPANEL=n: rows of the widest matmul tile of this instruction set (isa.py).
#define TWIN_OF(N)                                                                                       \
  extern "C" void rows_norm_quantise_p##N(const int64_t*, const int64_t* args, int64_t begin, int64_t end, \
                                          int64_t) {                                                     \
    norm_quantise<N>(args, begin, end);                                                                  \
  }
#define TWIN(N) TWIN_OF(N)
TWIN(1)
TWIN(PANEL)
