package text

import "unicode/utf8"

// words encodes words of a bpe. One goroutine uses it.
type words struct {
	m     *bpe
	ids   []int32
	ranks []int32
	long  chain
	buf   []byte
}

func newWords(m *bpe) *words { return &words{m: m} }

func (m *bpe) encoder() wordEncoder {
	if m.breaks {
		return &stretches{m: m, words: newCachedEncoder(newWords(m))}
	}
	return newWords(m)
}

// stretches encodes words that may be long in stretches that do not touch each
// other, as bpe.findBreaks has it.
type stretches struct {
	m     *bpe
	words *cached
}

// encode implements wordEncoder.
func (e *stretches) encode(dst []int32, word string) []int32 {
	for len(word) > 0 {
		n := e.m.breakAfter(word)
		dst = e.words.encode(dst, word[:n])
		word = word[n:]
	}
	return dst
}

// encode implements wordEncoder.
func (w *words) encode(dst []int32, word string) []int32 {
	m := w.m
	if m.ignoreMerges {
		w.buf = append(w.buf[:0], word...)
		if m.bytes {
			w.buf = appendMapped(w.buf[:0], word)
		}
		if id, ok := m.vocabulary[string(w.buf)]; ok {
			return append(dst, id)
		}
	}
	w.symbols(word)
	if len(w.ids) > shortWord {
		return w.long.merge(dst, m, w.ids)
	}
	return append(dst, w.mergeShort()...)
}

// symbols sets w.ids to the ids that the word's merging starts from.
func (w *words) symbols(word string) {
	m, pending := w.m, false // pending: an unknown token still to be written
	w.ids = w.ids[:0]
	known := func(id int32) {
		if pending {
			w.ids, pending = append(w.ids, m.unknown), false
		}
		w.ids = append(w.ids, id)
	}
	missing := func() {
		if m.unknown >= 0 {
			if pending && !m.fuseUnknown {
				w.ids = append(w.ids, m.unknown)
			}
			pending = true
		}
	}
	if m.bytes {
		for i := range len(word) {
			if id := m.byteIDs[word[i]]; id >= 0 {
				known(id)
			} else if !w.fallback(string(byteChars[word[i]])) {
				missing()
			}
		}
	} else {
		for i, r := range word {
			end := i + utf8.RuneLen(r)
			s := word[i:end]
			if i > 0 && m.prefix != "" {
				s = m.prefix + s
			}
			if end == len(word) && m.suffix != "" {
				s += m.suffix
			}
			if id, ok := m.vocabulary[s]; ok {
				known(id)
			} else if !w.fallback(s) {
				missing()
			}
		}
	}
	if pending {
		w.ids = append(w.ids, m.unknown)
	}
}

// fallback writes s as byte tokens, if the vocabulary has them all.
func (w *words) fallback(s string) (ok bool) {
	if w.m.byteFallback {
		w.ids, ok = appendBytes(w.ids, &w.m.fallbackIDs, s)
	}
	return ok
}

// shortWord is the number of symbols up to which looking at every pair each time
// beats a heap.
const shortWord = 40

// mergeShort merges w.ids in place and returns what is left.
func (w *words) mergeShort() []int32 {
	m, ids := w.m, w.ids
	if len(ids) < 2 {
		return ids
	}
	ranks := w.ranks[:0] // ranks[i] is the rank of ids[i], ids[i+1]
	for i := range len(ids) - 1 {
		ranks = append(ranks, m.rank(ids[i], ids[i+1]))
	}
	w.ranks = ranks
	for len(ranks) > 0 {
		best := 0
		for i, r := range ranks {
			if r < ranks[best] {
				best = i
			}
		}
		if ranks[best] == noRank {
			break
		}
		ids[best] = m.merged[ranks[best]]
		ids = append(ids[:best+1], ids[best+2:]...)
		ranks = append(ranks[:best], ranks[best+1:]...)
		if best < len(ranks) {
			ranks[best] = m.rank(ids[best], ids[best+1])
		}
		if best > 0 {
			ranks[best-1] = m.rank(ids[best-1], ids[best])
		}
	}
	return ids
}

// chain merges long words: symbols in a linked list, pairs in a heap ordered by
// rank and place. An entry is stale when its pair has changed since.
type chain struct {
	prev, next, rank []int32
	heap             []uint64 // rank<<32 | place
}

// merge appends what is left of ids; ids is overwritten.
func (c *chain) merge(dst []int32, m *bpe, ids []int32) []int32 {
	n := len(ids)
	c.prev, c.next, c.rank, c.heap = resize(c.prev, n), resize(c.next, n), resize(c.rank, n), c.heap[:0]
	for i := range n {
		c.prev[i], c.next[i] = int32(i-1), int32(i+1)
	}
	for i := range n {
		c.look(m, ids, int32(i))
	}
	for len(c.heap) > 0 {
		top := c.pop()
		at, rank := int32(uint32(top)), int32(top>>32)
		if c.rank[at] != rank {
			continue
		}
		gone := c.next[at]
		ids[at] = m.merged[rank]
		c.rank[gone] = noRank
		c.next[at] = c.next[gone]
		if after := c.next[at]; int(after) < n {
			c.prev[after] = at
		}
		c.look(m, ids, at)
		if before := c.prev[at]; before >= 0 {
			c.look(m, ids, before)
		}
	}
	for at := 0; at < n; at = int(c.next[at]) {
		dst = append(dst, ids[at])
	}
	return dst
}

// look finds the rank of the pair that starts at place at.
func (c *chain) look(m *bpe, ids []int32, at int32) {
	c.rank[at] = noRank
	if after := c.next[at]; int(after) < len(ids) {
		if r := m.rank(ids[at], ids[after]); r != noRank {
			c.rank[at] = r
			c.push(uint64(r)<<32 | uint64(at))
		}
	}
}

func (c *chain) push(x uint64) {
	h := append(c.heap, x)
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up] <= h[i] {
			break
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
	c.heap = h
}

func (c *chain) pop() uint64 {
	h := c.heap
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && h[child+1] < h[child] {
			child++
		}
		if h[i] <= h[child] {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	c.heap = h
	return top
}

func resize(s []int32, n int) []int32 {
	if cap(s) < n {
		return make([]int32, n)
	}
	return s[:n]
}
