// Twin of compiler/attention.py: paged causal attention with an online softmax, 64 positions at a time.
#include <cmath>

#include "vector.h"

constexpr int PAGE = 32, CHUNK = 256, SUBCHUNK = 64, VECTORS = 16 / LANES;
constexpr float LOWEST = -1.0e30f, MASKED = -3.0e38f;
#if defined(TWIN_BF16)
using Query = uint16_t;  // bf16
#else
using Query = float;
#endif
// Accumulators of a tile of 4 rows: 4 x 4 vectors on 32 registers, 4 x 2 on 16.
constexpr int WIDE = LANES == 16 ? 4 : 2;

static INLINE Floats larger(Floats a, Floats b) {  // a > b ? a : b
#if defined(TWIN_VNNI)
  return _mm512_max_ps(a, b);
#else
  return _mm256_max_ps(a, b);
#endif
}

static INLINE Floats add(Floats a, Floats b) { return a + b; }

static INLINE Floats exp2_of(Floats x) {
  constexpr double LN2 = 0.6931471805599453;
  constexpr float C[7] = {
      (float)(LN2 * LN2 * LN2 * LN2 * LN2 * LN2 / 720), (float)(LN2 * LN2 * LN2 * LN2 * LN2 / 120),
      (float)(LN2 * LN2 * LN2 * LN2 / 24), (float)(LN2 * LN2 * LN2 / 6), (float)(LN2 * LN2 / 2), (float)LN2, 1.0f};
  const Floats low = splat_f32(-126.0f), bounded = larger(x, low);
#if defined(TWIN_VNNI)
  const Floats n = _mm512_roundscale_ps(bounded, 8), f = sub(bounded, n);
#else
  const Floats n = _mm256_round_ps(bounded, 8), f = sub(bounded, n);
#endif
  Floats y = splat_f32(C[0]);
  for (int i = 1; i < 7; i++) y = fma(y, f, splat_f32(C[i]));
#if defined(TWIN_VNNI)
  Ints bits = add_i32(_mm512_castps_si512(y), left(_mm512_cvttps_epi32(n), 23));
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, low, _CMP_NLT_UQ), _mm512_castsi512_ps(bits));
#else
  Ints bits = add_i32(_mm256_castps_si256(y), left(_mm256_cvttps_epi32(n), 23));
  return _mm256_andnot_ps(_mm256_cmp_ps(x, low, _CMP_LT_OQ), _mm256_castsi256_ps(bits));
#endif
}

static INLINE float exp2_of(float x) {
  float lanes[LANES];
  store_f32(lanes, exp2_of(splat_f32(x)));
  return lanes[0];
}

static INLINE Floats as_floats(Ints x) {
#if defined(TWIN_VNNI)
  return _mm512_castsi512_ps(x);
#else
  return _mm256_castsi256_ps(x);
#endif
}

// acc[m][v] += pairs[v].first * scalar[m].first + pairs[v].second * scalar[m].second.
template <int ROWS, int COLUMNS>
static INLINE void accumulate(Floats acc[ROWS][COLUMNS], const Ints* pairs, const Query* scalars, int64_t stride) {
#if defined(TWIN_BF16)
  for (int m = 0; m < ROWS; m++) {
    const Ints scalar = splat_i32(i32_at(scalars + m * stride));
    for (int v = 0; v < COLUMNS; v++) acc[m][v] = _mm512_dpbf16_ps(acc[m][v], (__m512bh)pairs[v], (__m512bh)scalar);
  }
#else
  for (int part = 0; part < 2; part++)
    for (int m = 0; m < ROWS; m++) {
      const Floats scalar = splat_f32(scalars[m * stride + part]);
      for (int v = 0; v < COLUMNS; v++) {
        const Ints half = part == 0 ? left(pairs[v], 16) : both(pairs[v], splat_i32(-65536));
        acc[m][v] = fma(as_floats(half), scalar, acc[m][v]);
      }
    }
#endif
}

template <int DIM>
struct State {
  float maximum, correction, padding[14], sum[16], values[DIM];
};

static INLINE float sum16(const float* x) {  // halves with halves
  float s[16];
  for (int i = 0; i < 16; i++) s[i] = x[i];
  for (int half = 8; half; half /= 2)
    for (int i = 0; i < half; i++) s[i] += s[i + half];
  return s[0];
}

template <int DIM, int GROUP>
struct Attend {
  static constexpr int ROWS_MAX = 32 + 4;
  alignas(64) Query queries[ROWS_MAX][DIM];
  alignas(64) State<DIM> total[ROWS_MAX], partial[ROWS_MAX];
  alignas(64) float scores[4][SUBCHUNK];
  alignas(64) Query weights[4][SUBCHUNK];
  int64_t rows;

  static void clear(State<DIM>& state) {
    std::memset(&state, 0, sizeof state);
    state.maximum = LOWEST;
  }

  template <int ROWS>
  INLINE void dot_keys(const uint8_t* const* pages, int64_t row) {
    constexpr int ALL = SUBCHUNK / LANES, PER_PAGE = PAGE / LANES;
    for (int start = 0; start < ALL; start += WIDE) {
      Floats acc[ROWS][WIDE];
      const uint8_t* at[WIDE];
      for (int v = 0; v < WIDE; v++) {
        const int vector = (start + v) % PER_PAGE;
        at[v] = pages[(start + v) / PER_PAGE] + vector / VECTORS * 32 * DIM + 4 * LANES * (vector % VECTORS);
        for (int m = 0; m < ROWS; m++) acc[m][v] = zero_f32();
      }
#pragma GCC unroll 1
      for (int pair = 0; pair < DIM / 2; pair++) {
        Ints pairs[WIDE];
        for (int v = 0; v < WIDE; v++) pairs[v] = load(at[v] + 64 * pair);
        accumulate<ROWS, WIDE>(acc, pairs, &queries[row][2 * pair], DIM);
      }
      for (int m = 0; m < ROWS; m++)
        for (int v = 0; v < WIDE; v++) store_f32(&scores[m][LANES * (start + v)], acc[m][v]);
    }
  }

  INLINE void softmax(int64_t limit, int m, State<DIM>& state) {
    for (int64_t p = limit < 0 ? 0 : limit + 1; p < SUBCHUNK; p++) scores[m][p] = MASKED;
    Floats top = load_f32(scores[m]);
    for (int v = 1; v < SUBCHUNK / LANES; v++) top = larger(top, load_f32(&scores[m][LANES * v]));
    float lanes[LANES], largest;
    store_f32(lanes, top);
    largest = lanes[0];
    for (int i = 1; i < LANES; i++) largest = lanes[i] > largest ? lanes[i] : largest;
    const float before = state.maximum, after = before > largest ? before : largest;
    Floats w[SUBCHUNK / LANES];
    for (int v = 0; v < SUBCHUNK / LANES; v++) w[v] = exp2_of(sub(load_f32(&scores[m][LANES * v]), splat_f32(after)));
    const float correction = exp2_of(before - after);
    for (int i = 0; i < VECTORS; i++) {
      const Floats added = add(add(w[i], w[VECTORS + i]), add(w[2 * VECTORS + i], w[3 * VECTORS + i]));
      store_f32(&state.sum[LANES * i], fma(load_f32(&state.sum[LANES * i]), splat_f32(correction), added));
    }
    state.maximum = after;
    state.correction = correction;
    for (int v = 0; v < SUBCHUNK / LANES; v++) {
#if defined(TWIN_BF16)
      _mm256_storeu_si256((__m256i*)&weights[m][LANES * v], (__m256i)_mm512_cvtneps_pbh(w[v]));
#else
      store_f32(&weights[m][LANES * v], w[v]);
#endif
    }
  }

  template <int ROWS>
  INLINE void add_values(const uint8_t* const* pages, State<DIM>* state) {
    for (int start = 0; start < DIM / LANES; start += WIDE) {
      Floats acc[ROWS][WIDE];
      for (int m = 0; m < ROWS; m++)
        for (int v = 0; v < WIDE; v++)
          acc[m][v] = mul(load_f32(&state[m].values[LANES * (start + v)]), splat_f32(state[m].correction));
      for (int half = 0; half < SUBCHUNK / PAGE; half++) {
        const uint8_t* values = pages[half] + 2 * PAGE * DIM + 4 * LANES * start;
#pragma GCC unroll 1
        for (int pair = 0; pair < PAGE / 2; pair++) {
          Ints pairs[WIDE];
          for (int v = 0; v < WIDE; v++) pairs[v] = load(values + 4 * DIM * pair + 4 * LANES * v);
          accumulate<ROWS, WIDE>(acc, pairs, &weights[0][PAGE * half + 2 * pair], SUBCHUNK);
        }
      }
      for (int m = 0; m < ROWS; m++)
        for (int v = 0; v < WIDE; v++) store_f32(&state[m].values[LANES * (start + v)], acc[m][v]);
    }
  }

  template <int ROWS>
  void tile(const uint8_t* const* pages, int64_t base, int64_t first, int64_t row) {
    dot_keys<ROWS>(pages, row);
    for (int m = 0; m < ROWS; m++) softmax(first + (row + m) / GROUP - base, m, partial[row + m]);
    add_values<ROWS>(pages, &partial[row]);
  }

  static INLINE void merge(State<DIM>& a, const State<DIM>& b) {
    const float most = a.maximum > b.maximum ? a.maximum : b.maximum;
    const Floats keep = splat_f32(exp2_of(a.maximum - most)), more = splat_f32(exp2_of(b.maximum - most));
    a.maximum = most;
    for (int i = 0; i < 16 + DIM; i += LANES)
      store_f32(a.sum + i, fma(load_f32(b.sum + i), more, mul(load_f32(a.sum + i), keep)));
  }

  void item(const int64_t* ctx, const int64_t* args, const int32_t* field) {
    const int64_t head = field[1], token = field[2], tokens = field[3], first = field[4], last = first + tokens - 1;
    rows = tokens * GROUP;
    for (int64_t r = 0; r < rows; r++)
      std::memcpy(queries[r], (const uint8_t*)args[0] + (token + r / GROUP) * args[1] +
                                  (head * GROUP + r % GROUP) * DIM * sizeof(Query), sizeof queries[r]);
    const int32_t* table = (const int32_t*)(ctx[12] + field[0] * ctx[13]);
    const uint8_t* cache = (const uint8_t*)args[2] + head * args[3];
    for (int64_t r = 0; r < rows; r++) clear(total[r]);
    for (int64_t chunk = field[5]; chunk < field[6]; chunk++) {
      for (int64_t r = 0; r < rows; r++) clear(partial[r]);
      for (int64_t base = chunk * CHUNK; base < (chunk + 1) * CHUNK && base <= last; base += SUBCHUNK) {
        const uint8_t* pages[SUBCHUNK / PAGE];
        for (int half = 0; half < SUBCHUNK / PAGE; half++) {
          const int64_t position = base + PAGE * half < last ? base + PAGE * half : last;
          pages[half] = cache + table[position / PAGE] * (4 * PAGE * DIM);
        }
        for (int64_t row = 0; row < rows; row += 4) {
          if (rows - row > 2) tile<4>(pages, base, first, row);
          else if (rows - row == 2) tile<2>(pages, base, first, row);
          else tile<1>(pages, base, first, row);
        }
      }
      for (int64_t r = 0; r < rows; r++) merge(total[r], partial[r]);
    }
    for (int64_t r = 0; r < rows; r++) {
      float* out = (float*)(args[4] + (token + r / GROUP) * args[5]) + (head * GROUP + r % GROUP) * DIM;
      const Floats share = splat_f32(1.0f / sum16(total[r].sum));
      for (int i = 0; i < DIM; i += LANES) store_f32(out + i, mul(load_f32(&total[r].values[i]), share));
    }
  }
};

template <int DIM, int GROUP>
static void attend(const int64_t* ctx, const int64_t* args, int64_t begin, int64_t end) {
  Attend<DIM, GROUP> work;
  std::memset((void*)&work, 0, sizeof work);
  for (int64_t i = begin; i < end; i++) work.item(ctx, args, (const int32_t*)(ctx[16] + 32 * i));
}

#define TWIN(DIM, GROUP)                                                                                     \
  extern "C" void attend_d##DIM##_g##GROUP(const int64_t* ctx, const int64_t* args, int64_t begin, int64_t end, \
                                           int64_t) {                                                        \
    attend<DIM, GROUP>(ctx, args, begin, end);                                                               \
  }
TWIN(64, 3)
TWIN(128, 2)
