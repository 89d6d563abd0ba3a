#include "event_sums.h"

Add event_sums(int vectors) { return add_of<false>(vectors, std::make_integer_sequence<int, kVectors>()); }
AddAll event_sums_by_words(int vectors) {
    return add_by_words_of<false>(vectors, std::make_integer_sequence<int, kVectors>());
}
