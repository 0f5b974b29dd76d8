// One vector of a twin: 16 lanes with AVX-512 VNNI, 8 with AVX2.  Chosen by -DTWIN_VNNI or -DTWIN_AVX2.
#pragma once
#include <immintrin.h>
#include <cstdint>
#include <cstring>

#define INLINE inline __attribute__((always_inline))

#if defined(TWIN_VNNI)
using Ints = __m512i;
using Floats = __m512;
constexpr int LANES = 16;
INLINE Ints load(const void* p) { return _mm512_loadu_si512(p); }
INLINE Floats load_f32(const void* p) { return _mm512_loadu_ps(p); }
INLINE void store_f32(void* p, Floats x) { _mm512_storeu_ps(p, x); }
INLINE Floats zero_f32() { return _mm512_setzero_ps(); }
INLINE Ints splat_i32(int32_t x) { return _mm512_set1_epi32(x); }
INLINE Floats splat_f32(float x) { return _mm512_set1_ps(x); }
INLINE Ints both(Ints a, Ints b) { return _mm512_and_si512(a, b); }
INLINE Ints either(Ints a, Ints b) { return _mm512_or_si512(a, b); }
INLINE Ints right(Ints a, int n) { return _mm512_srli_epi32(a, n); }
INLINE Ints left(Ints a, int n) { return _mm512_slli_epi32(a, n); }
INLINE Ints add_i32(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
INLINE Ints mul_i32(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
INLINE Floats to_f32(Ints a) { return _mm512_cvtepi32_ps(a); }
INLINE Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
INLINE Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
INLINE Floats halves_at(const void* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
INLINE Floats u8_at(const void* p) { return to_f32(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p))); }
INLINE Floats i8_at(const void* p) { return to_f32(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p))); }
#elif defined(TWIN_AVX2)
using Ints = __m256i;
using Floats = __m256;
constexpr int LANES = 8;
INLINE Ints load(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
INLINE Floats load_f32(const void* p) { return _mm256_loadu_ps((const float*)p); }
INLINE void store_f32(void* p, Floats x) { _mm256_storeu_ps((float*)p, x); }
INLINE Floats zero_f32() { return _mm256_setzero_ps(); }
INLINE Ints splat_i32(int32_t x) { return _mm256_set1_epi32(x); }
INLINE Floats splat_f32(float x) { return _mm256_set1_ps(x); }
INLINE Ints both(Ints a, Ints b) { return _mm256_and_si256(a, b); }
INLINE Ints either(Ints a, Ints b) { return _mm256_or_si256(a, b); }
INLINE Ints right(Ints a, int n) { return _mm256_srli_epi32(a, n); }
INLINE Ints left(Ints a, int n) { return _mm256_slli_epi32(a, n); }
INLINE Ints add_i32(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
INLINE Ints mul_i32(Ints a, Ints b) { return _mm256_mullo_epi32(a, b); }
INLINE Floats to_f32(Ints a) { return _mm256_cvtepi32_ps(a); }
INLINE Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
INLINE Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
INLINE Floats halves_at(const void* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
INLINE Floats u8_at(const void* p) { return to_f32(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p))); }
INLINE Floats i8_at(const void* p) { return to_f32(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p))); }
#else
#error "say -DTWIN_VNNI or -DTWIN_AVX2"
#endif

INLINE int32_t i32_at(const void* p) { int32_t x; std::memcpy(&x, p, 4); return x; }
INLINE float f32_at(const void* p) { float x; std::memcpy(&x, p, 4); return x; }
INLINE Ints bytes(uint8_t b) { return splat_i32(0x01010101 * b); }
