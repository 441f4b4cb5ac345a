package bundle

import (
	"fmt"
	"math"
)

// NGram predicts the next byte from the n-1 before it, by Kneser-Ney smoothing in the
// interpolated form of Chen and Goodman (1999): with h a history and h' the same
// less its first byte,
//
//	p(w|h) = max(c(hw) - D, 0) / c(h·) + D · N(h·) / c(h·) · p(w|h')
//
// where c counts occurrences at the highest order and distinct bytes before at the
// others, c(h·) is its sum over w, N(h·) the number of w seen after h, and
// D = n1 / (n1 + 2·n2) of the order's own counts of counts. Below the first order
// every byte has 1/256. An order that never saw h leaves the word to the next.
type NGram struct {
	orders []order // orders[k] looks k bytes back
}

// order holds the counts of one length of history.
type order struct {
	count    map[uint64]uint32 // c(hw), by key of hw
	total    map[uint64]uint32 // c(h·), by key of h
	distinct map[uint64]uint32 // N(h·), by key of h
	discount float64
}

// TrainNGram counts text for a model of n bytes, 1 to 8, the predicted one included.
func TrainNGram(text string, n int) (*NGram, error) {
	if n < 1 || n > 8 {
		return nil, fmt.Errorf("bundle: an n-gram of %d bytes: 1 to 8 are possible", n)
	}
	m := &NGram{orders: make([]order, n)}
	count := map[uint64]uint32{}
	for i := n; i <= len(text); i++ {
		count[key(text[i-n:i])]++
	}
	for k := n - 1; k >= 0; k-- {
		m.orders[k] = newOrder(count)
		// c of the next order: how many distinct bytes stand before hw.
		before := map[uint64]uint32{}
		for hw := range count {
			before[hw&^(0xff<<(8*k))]++
		}
		count = before
	}
	return m, nil
}

func newOrder(count map[uint64]uint32) order {
	o := order{count: count, total: map[uint64]uint32{}, distinct: map[uint64]uint32{}, discount: 0.5}
	var n1, n2 float64
	for hw, c := range count {
		o.total[hw>>8] += c
		o.distinct[hw>>8]++
		switch c {
		case 1:
			n1++
		case 2:
			n2++
		}
	}
	if n1 > 0 && n2 > 0 {
		o.discount = n1 / (n1 + 2*n2)
	}
	return o
}

// key packs up to eight bytes, the last one lowest.
func key(s string) uint64 {
	var k uint64
	for i := range len(s) {
		k = k<<8 | uint64(s[i])
	}
	return k
}

// Prob is the probability of next after history, of which the last n-1 bytes count.
func (m *NGram) Prob(history string, next byte) float64 {
	p := 1.0 / 256
	for k, o := range m.orders {
		if k > len(history) {
			break
		}
		h := key(history[len(history)-k:])
		c := float64(o.total[h])
		if c == 0 {
			break // a longer history was not seen either
		}
		seen := max(float64(o.count[h<<8|uint64(next)])-o.discount, 0)
		p = (seen + o.discount*float64(o.distinct[h])*p) / c
	}
	return p
}

// BitsPerByte is the mean of -log2 p over text, each byte after those before it.
func (m *NGram) BitsPerByte(text string) float64 {
	var bits float64
	for i := range len(text) {
		bits -= math.Log2(m.Prob(text[:i], text[i]))
	}
	return bits / float64(len(text))
}
