// Twin of compiler/matmul.py: the same packed tiles, instructions, tile sizes and order of sums, by hand.
#include "vector.h"

constexpr int BLOCK = 32, COLUMNS = 16, HALVES = COLUMNS / LANES, WIDTH = 4 * LANES;

struct Super { Floats scale, negative_minimum; };
struct Block { Ints codes[8]; Floats scale[2], minimum[2]; };

struct Q4_0 {
  static constexpr int ZERO = 8, SUBS = 1, CODE_MAX = 15, SUPER_BYTES = 0, BLOCK_BYTES = 288;
  static constexpr bool HAS_MINIMUM = false;
  static INLINE Super super_at(const uint8_t*, int) { return {zero_f32(), zero_f32()}; }
  static INLINE Block block_at(const uint8_t* at, int half, const Super&) {
    Block b;
    for (int v = 0; v < 4; v++) {
      Ints words = load(at + 64 * v + WIDTH * half);
      b.codes[v] = both(words, bytes(15));
      b.codes[v + 4] = both(right(words, 4), bytes(15));
    }
    b.scale[0] = halves_at(at + 256 + 2 * LANES * half);
    return b;
  }
};

struct Q8_0 {
  static constexpr int ZERO = 128, SUBS = 1, CODE_MAX = 255, SUPER_BYTES = 0, BLOCK_BYTES = 544;
  static constexpr bool HAS_MINIMUM = false;
  static INLINE Super super_at(const uint8_t*, int) { return {zero_f32(), zero_f32()}; }
  static INLINE Block block_at(const uint8_t* at, int half, const Super&) {
    Block b;
    for (int v = 0; v < 8; v++) b.codes[v] = load(at + 64 * v + WIDTH * half);
    b.scale[0] = halves_at(at + 512 + 2 * LANES * half);
    return b;
  }
};

struct Q4_K {
  static constexpr int ZERO = 0, SUBS = 1, CODE_MAX = 15, SUPER_BYTES = 64, BLOCK_BYTES = 288;
  static constexpr bool HAS_MINIMUM = true;
  static INLINE Super super_at(const uint8_t* at, int half) {
    return {halves_at(at + 2 * LANES * half), sub(zero_f32(), halves_at(at + 32 + 2 * LANES * half))};
  }
  static INLINE Block block_at(const uint8_t* at, int half, const Super& super) {
    Block b = Q4_0::block_at(at, half, super);
    b.scale[0] = mul(u8_at(at + 256 + LANES * half), super.scale);
    b.minimum[0] = mul(u8_at(at + 272 + LANES * half), super.negative_minimum);
    return b;
  }
};

struct Q6_K {
  static constexpr int ZERO = 32, SUBS = 2, CODE_MAX = 63, SUPER_BYTES = 32, BLOCK_BYTES = 416;
  static constexpr bool HAS_MINIMUM = false;
  static INLINE Super super_at(const uint8_t* at, int half) { return {halves_at(at + 2 * LANES * half), zero_f32()}; }
  static INLINE Block block_at(const uint8_t* at, int half, const Super& super) {
    Block b = Q4_0::block_at(at, half, super);
    for (int v = 0; v < 2; v++) {
      Ints plane = load(at + 256 + 64 * v + WIDTH * half);
      b.codes[v] = either(b.codes[v], both(left(plane, 4), bytes(48)));
      b.codes[v + 2] = either(b.codes[v + 2], both(left(plane, 2), bytes(48)));
      b.codes[v + 4] = either(b.codes[v + 4], both(plane, bytes(48)));
      b.codes[v + 6] = either(b.codes[v + 6], both(right(plane, 2), bytes(48)));
    }
    for (int s = 0; s < 2; s++) b.scale[s] = mul(i8_at(at + 384 + 16 * s + LANES * half), super.scale);
    return b;
  }
};

// start + the sum of four u8 x s8 products per group into each i32 lane.
template <int CODE_MAX, int GROUPS>
INLINE Ints dot(const Ints* codes, const uint8_t* activations, Ints start) {
#if defined(TWIN_VNNI)
  for (int g = 0; g < GROUPS; g++) start = _mm512_dpbusd_epi32(start, codes[g], splat_i32(i32_at(activations + 4 * g)));
  return start;
#else
  const Ints ones = _mm256_set1_epi16(1);
  if constexpr (CODE_MAX > 127) {  // nibbles: an int16 lane holds no pair of these products
    Ints low[GROUPS], high[GROUPS];
    for (int g = 0; g < GROUPS; g++) {
      low[g] = both(codes[g], bytes(15));
      high[g] = both(right(codes[g], 4), bytes(15));
    }
    Ints total = dot<15, GROUPS>(low, activations, splat_i32(0));
    return add_i32(start, add_i32(total, left(dot<15, GROUPS>(high, activations, splat_i32(0)), 4)));
  } else {
    constexpr int LENGTH = 32767 / (2 * CODE_MAX * 127);
    Ints total = start;
    for (int first = 0; first < GROUPS; first += LENGTH) {
      Ints chain = _mm256_maddubs_epi16(codes[first], splat_i32(i32_at(activations + 4 * first)));
      for (int g = first + 1; g < first + LENGTH && g < GROUPS; g++)
        chain = _mm256_add_epi16(chain, _mm256_maddubs_epi16(codes[g], splat_i32(i32_at(activations + 4 * g))));
      total = add_i32(total, _mm256_madd_epi16(chain, ones));
    }
    return total;
  }
#endif
}

template <class Format, int P, int COUNT>
INLINE void block(const uint8_t* at, const uint8_t* codes, const uint8_t* values, int half, const Super& super,
                  Floats* sums) {
  const Block b = Format::block_at(at, half, super);
  constexpr int GROUPS = 8 / Format::SUBS;
  for (int s = 0; s < Format::SUBS; s++) {
    const int sum_word = Format::SUBS == 1 ? 1 : 3 + s, code_sum_word = Format::SUBS == 1 ? 2 : 5 + s;
    for (int m = 0; m < COUNT; m++) {
      Ints start = splat_i32(0);
      if (Format::ZERO) start = splat_i32(i32_at(values + 4 * (code_sum_word * P + m)) * -Format::ZERO);
      Ints total = dot<Format::CODE_MAX, GROUPS>(b.codes + s * GROUPS, codes + BLOCK * m + 4 * GROUPS * s, start);
      Floats scale = mul(b.scale[s], splat_f32(f32_at(values + 4 * m)));
      sums[m] = fma(to_f32(total), scale, sums[m]);
      if (Format::HAS_MINIMUM)
        sums[m] = fma(b.minimum[s], splat_f32(f32_at(values + 4 * (sum_word * P + m))), sums[m]);
    }
  }
}

template <class Format, int P, int COUNT, int HALF, int NUM_HALVES>
INLINE void contract(const uint8_t* at, const uint8_t* codes, const uint8_t* values, int64_t num_blocks,
                     Floats sums[NUM_HALVES][COUNT]) {
  constexpr int INNER = Format::SUPER_BYTES ? 8 : 1;
  for (int h = 0; h < NUM_HALVES; h++)
    for (int m = 0; m < COUNT; m++) sums[h][m] = zero_f32();
  for (int64_t s = 0; s < num_blocks / INNER; s++) {
    Super super[NUM_HALVES];
    for (int h = 0; h < NUM_HALVES; h++) super[h] = Format::super_at(at, HALF + h);
    at += Format::SUPER_BYTES;
#pragma GCC unroll 1
    for (int b = 0; b < INNER; b++) {
      for (int h = 0; h < NUM_HALVES; h++) block<Format, P, COUNT>(at, codes, values, HALF + h, super[h], sums[h]);
      at += Format::BLOCK_BYTES, codes += 64 * P, values += 64 * P;
    }
  }
}

struct Call {
  const uint8_t *weights, *activations;
  int64_t num_blocks, tile_bytes, panel_bytes, out_row_bytes, item_rows;
  uint8_t* out;
};

template <class Format, int P, int COUNT, int HALF, int NUM_HALVES>
INLINE void part(const Call& c, int64_t tile, int64_t row, int in_panel, const uint8_t* panel) {
  Floats sums[NUM_HALVES][COUNT];
  contract<Format, P, COUNT, HALF, NUM_HALVES>(c.weights + tile * c.tile_bytes, panel + BLOCK * in_panel,
                                                   panel + BLOCK * P + 4 * in_panel, c.num_blocks, sums);
  for (int h = 0; h < NUM_HALVES; h++)
    for (int m = 0; m < COUNT; m++)
      store_f32(c.out + (row + m) * c.out_row_bytes + 64 * tile + 4 * LANES * (HALF + h), sums[h][m]);
}

template <class Format, int P, int COUNT>
void rows(const Call& c, int64_t tile, int64_t row, int in_panel, const uint8_t* panel) {
  if constexpr (COUNT <= 2) {  // both halves in one pass: each line of weights is read once
    part<Format, P, COUNT, 0, HALVES>(c, tile, row, in_panel, panel);
  } else {
    part<Format, P, COUNT, 0, 1>(c, tile, row, in_panel, panel);
    if constexpr (HALVES == 2) part<Format, P, COUNT, 1, 1>(c, tile, row, in_panel, panel);
  }
}

template <class Format, int P>
INLINE void matmul(const int64_t* ctx, const int64_t* args, int64_t begin, int64_t end) {
  const Call c{(const uint8_t*)args[0], (const uint8_t*)args[3], args[1], args[2], args[4], args[6], args[9],
               (uint8_t*)args[5]};
  const int64_t num_rows = ctx[0], groups = (num_rows + c.item_rows - 1) / c.item_rows;
  for (int64_t item = begin; item < end; item++) {
    const int64_t tile = item / groups, first = item % groups * c.item_rows;
    const int64_t last = first + c.item_rows < num_rows ? first + c.item_rows : num_rows;
    for (int64_t row = first; row < last; row += P) {
      const uint8_t* panel = c.activations + row / P * c.panel_bytes;
      const int64_t left = last - row;
      if (left >= P) { rows<Format, P, P>(c, tile, row, 0, panel); continue; }
      int done = 0;
      if constexpr (P > 4) if (left & 4) rows<Format, P, 4>(c, tile, row + done, done, panel), done += 4;
      if constexpr (P > 2) if (left & 2) rows<Format, P, 2>(c, tile, row + done, done, panel), done += 2;
      if constexpr (P > 1) if (left & 1) rows<Format, P, 1>(c, tile, row + done, done, panel);
    }
  }
}

// -DPANEL=n: rows of the widest tile of this instruction set (isa.py).
#define TWIN_OF(name, Format, N)                                                                         \
  extern "C" void matmul_##name##_p##N##_store_e0(const int64_t* ctx, const int64_t* args, int64_t begin, \
                                                  int64_t end, int64_t) {                                \
    matmul<Format, N>(ctx, args, begin, end);                                                            \
  }
#define TWIN(name, Format, N) TWIN_OF(name, Format, N)
#define TWINS(name, Format) TWIN(name, Format, 1) TWIN(name, Format, PANEL)
TWINS(q4_0, Q4_0)
TWINS(q8_0, Q8_0)
TWINS(q4_k, Q4_K)
TWINS(q6_k, Q6_K)
