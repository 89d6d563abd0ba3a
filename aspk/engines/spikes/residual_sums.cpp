#include "event_sums.h"

Add residual_sums(int vectors) { return add_of<true>(vectors, std::make_integer_sequence<int, kVectors>()); }
AddAll residual_sums_by_words(int vectors) {
    return add_by_words_of<true>(vectors, std::make_integer_sequence<int, kVectors>());
}
