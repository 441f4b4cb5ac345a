package grad

import (
	"math/rand/v2"
	"testing"
)

// Buffers in use never share memory, and once all are back every tract is whole again.
func TestArenaBuffersAreApart(t *testing.T) {
	var a arena
	r := rand.New(rand.NewPCG(1, 2))
	type held struct {
		buf  []float32
		mark float32
	}
	var out []held
	giveBack := func() {
		i := r.IntN(len(out))
		h := out[i]
		for j, v := range h.buf {
			if v != h.mark {
				t.Fatalf("value %d of %d is %g, want %g: somebody else has the buffer too", j, len(h.buf), v, h.mark)
			}
		}
		a.put(h.buf)
		out[i] = out[len(out)-1]
		out = out[:len(out)-1]
	}
	for i := range 600 {
		if a.late = i%100 >= 50; len(out) > 0 && r.IntN(9) < 4 {
			giveBack()
			continue
		}
		n := 1 + r.IntN(100)
		if r.IntN(3) > 0 {
			n = uncut - 3 + r.IntN(3*uncut)
		}
		h := held{a.get(n), float32(i)}
		if len(h.buf) != n {
			t.Fatalf("%d values, want %d", len(h.buf), n)
		}
		for j := range h.buf {
			h.buf[j] = h.mark
		}
		out = append(out, h)
	}
	for len(out) > 0 {
		giveBack()
	}
	for i, s := range a.tracts {
		if len(s.free) != 1 || s.free[0] != (span{0, len(s.data)}) {
			t.Errorf("tract %d of %d values has %v free", i, len(s.data), s.free)
		}
	}
	if a.drop(); len(a.tracts) != 0 {
		t.Errorf("%d tracts are left", len(a.tracts))
	}
}

// What was held in many buffers serves for few, and the other way about.
func TestArenaServesOtherSizes(t *testing.T) {
	var a arena
	const total = 4 * leastTract
	reached := func() (n int) {
		for _, s := range a.tracts {
			n += s.used
		}
		return n
	}
	var first int
	for _, parts := range []int{1, 16, 4, 7, 2, 16, 1} {
		var bufs [][]float32
		for range parts {
			bufs = append(bufs, a.get(total/parts))
		}
		for _, b := range bufs {
			a.put(b)
		}
		if first == 0 {
			first = reached()
		}
		if n := reached(); n > first+first/2 {
			t.Errorf("%d values in %d buffers: %d values have been in use, %d by one buffer", total, parts, n, first)
		}
	}
}

// A tract made for one very large buffer stays whole through forward passes, so that the
// next such buffer finds it; a backward pass may use it.
func TestArenaKeepsVeryLargePlaces(t *testing.T) {
	var a arena
	a.put(a.get(3 * mostTract))
	small := a.get(uncut + 1)
	large := a.get(3 * mostTract)
	if len(a.tracts) != 2 {
		t.Errorf("%d tracts, want one for each of two sizes", len(a.tracts))
	}
	a.put(large)
	a.late = true
	more := a.get(mostTract + 1)
	if len(a.tracts) != 2 {
		t.Errorf("%d tracts in a backward pass, want 2", len(a.tracts))
	}
	a.put(more)
	a.put(small)
}
