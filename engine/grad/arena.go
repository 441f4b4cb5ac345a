package grad

import (
	"cmp"
	"math/bits"
	"slices"
	"sync"
	"unsafe"
)

// arena recycles f32 buffers, so that a training step makes no garbage once the
// first has run. Buffers come back dirty. Small ones are rounded up to a quarter of a
// power of two and wait for the next of their size. Large ones are cut from tracts and
// join their free neighbours when they come back, so that what one part of a step has
// held serves any other, whatever its sizes.
type arena struct {
	mu     sync.Mutex
	small  map[int][][]float32 // free buffers by size class
	tracts []*tract            // by address
	late   bool                // a backward pass runs, see fits
}

const (
	uncut      = 1 << 16 // the largest buffer with memory of its own
	cutGrain   = 1 << 10 // large buffers begin and end on pages
	leastTract = 1 << 18
	mostTract  = 1 << 23 // unless a single buffer is larger
)

// tract is memory that large buffers are cut from. Pages that no buffer has
// reached are not held yet.
type tract struct {
	data []float32
	free []span // by position, no two adjacent
	used int    // no buffer has reached beyond it
}

// span is [lo, hi) of a tract.
type span struct{ lo, hi int }

// sizeClass returns the smallest (4+q)·2^e ≥ n with q in 0..3.
func sizeClass(n int) int {
	if n <= 64 {
		return 64
	}
	step := 1 << (bits.Len(uint(n-1)) - 3)
	return (n + step - 1) / step * step
}

func (a *arena) get(n int) []float32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > uncut {
		return a.cut((n + cutGrain - 1) / cutGrain * cutGrain)[:n]
	}
	c := sizeClass(n)
	if list := a.small[c]; len(list) > 0 {
		buf := list[len(list)-1]
		a.small[c] = list[:len(list)-1]
		return buf[:n]
	}
	return make([]float32, n, c)
}

// put takes back a buffer that get has returned.
func (a *arena) put(buf []float32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if cap(buf) > uncut {
		a.join(buf[:cap(buf)])
		return
	}
	if a.small == nil {
		a.small = map[int][][]float32{}
	}
	a.small[cap(buf)] = append(a.small[cap(buf)], buf)
}

// cut returns size values from where the fewest pages are new, of such places the one
// that the size fits best.
func (a *arena) cut(size int) []float32 {
	var best *tract
	at, fresh, room := 0, 0, 0
	for _, t := range a.tracts {
		if !a.fits(t, size) {
			continue
		}
		for i, f := range t.free {
			n, reach := f.hi-f.lo, max(0, f.lo+size-t.used)
			if n >= size && (best == nil || reach < fresh || reach == fresh && n < room) {
				best, at, fresh, room = t, i, reach, n
			}
		}
	}
	if best == nil {
		best, at = a.grow(size), 0
	}
	f := &best.free[at]
	lo, hi := f.lo, f.lo+size
	if f.lo = hi; f.lo == f.hi {
		best.free = slices.Delete(best.free, at, at+1)
	}
	best.used = max(best.used, hi)
	return best.data[lo:hi:hi]
}

// fits reports whether size may be cut from t. A tract that was made for one very large
// buffer, the gradient of a head as a rule, is not broken in a forward pass: what the
// pass keeps would stand where the next such buffer is to lie. What a backward pass cuts
// is free again by then.
func (a *arena) fits(t *tract, size int) bool {
	return a.late || len(t.data) <= mostTract || 2*size > len(t.data)
}

// grow adds a tract with room for size values, or for as many as the others have together.
func (a *arena) grow(size int) *tract {
	held := leastTract
	for _, s := range a.tracts {
		held += len(s.data)
	}
	n := max(size, min(4*held, mostTract))
	s := &tract{data: make([]float32, n), free: []span{{0, n}}}
	a.tracts = slices.Insert(a.tracts, a.after(address(s.data)), s)
	return s
}

// join makes buf's place free again, as one span with its free neighbours.
func (a *arena) join(buf []float32) {
	at := address(buf)
	s := a.tracts[a.after(at)-1]
	lo := int(at-address(s.data)) / 4
	hi := lo + len(buf)
	i, _ := slices.BinarySearchFunc(s.free, lo, func(f span, lo int) int { return f.lo - lo })
	before, after := i > 0 && s.free[i-1].hi == lo, i < len(s.free) && s.free[i].lo == hi
	switch {
	case before && after:
		s.free[i-1].hi = s.free[i].hi
		s.free = slices.Delete(s.free, i, i+1)
	case before:
		s.free[i-1].hi = hi
	case after:
		s.free[i].lo = lo
	default:
		s.free = slices.Insert(s.free, i, span{lo, hi})
	}
}

// after returns how many tracts begin at or before an address.
func (a *arena) after(at uintptr) int {
	i, found := slices.BinarySearchFunc(a.tracts, at, func(s *tract, at uintptr) int { return cmp.Compare(address(s.data), at) })
	if found {
		i++
	}
	return i
}

func address(s []float32) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(s))) }

// drop lets all free memory go.
func (a *arena) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.small = nil
	a.tracts = slices.DeleteFunc(a.tracts, func(s *tract) bool { return len(s.free) == 1 && s.free[0] == span{0, len(s.data)} })
}

// slab hands out zeros that stand where they are until it is reset, when all of them are
// free again.
type slab[T any] struct {
	chunks      [][]T
	chunk, used int // chunks before that one are given out, and so many elements of it
}

const slabChunk = 256

func (s *slab[T]) take(n int) []T {
	for ; s.chunk < len(s.chunks); s.chunk, s.used = s.chunk+1, 0 {
		if c := s.chunks[s.chunk]; s.used+n <= len(c) {
			s.used += n
			return c[s.used-n : s.used : s.used]
		}
	}
	s.chunks = append(s.chunks, make([]T, max(n, slabChunk)))
	s.used = n
	return s.chunks[s.chunk][:n:n]
}

func (s *slab[T]) reset() {
	for i := 0; i <= s.chunk && i < len(s.chunks); i++ {
		clear(s.chunks[i])
	}
	s.chunk, s.used = 0, 0
}
