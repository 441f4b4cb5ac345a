// Package nearest finds the word that a mistyped one most likely meant, for
// errors about unknown keys, names and slugs.
package nearest

// Of returns the known word that a mistyped one most likely meant, or ""
// when none is near: the first of those with the fewest edits (a letter added,
// dropped or changed, or two neighbours swapped), provided that at most a
// third of the longer word, and always one edit, is edited. A word that begins
// a known word counts as near it.
func Of(word string, known []string) string {
	best, least := "", -1
	for _, k := range known {
		d := edits([]rune(word), []rune(k))
		if d <= max(1, max(len(word), len(k))/3) && (least < 0 || d < least) {
			best, least = k, d
		}
	}
	if best != "" || len(word) < 2 {
		return best
	}
	for _, k := range known {
		if len(k) > len(word) && k[:len(word)] == word {
			return k
		}
	}
	return ""
}

// edits is the optimal string alignment distance of a and b: with d(i, j) the
// distance of their first i and j letters,
//
//	d(i, j) = min( d(i−1, j) + 1, d(i, j−1) + 1, d(i−1, j−1) + [a_i ≠ b_j],
//	               d(i−2, j−2) + 1 where the last two letters are swapped ).
func edits(a, b []rune) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(last[j]+1, row[j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
