package grad

import (
	"math/bits"
	"sync"
)

// arena recycles f32 buffers, so that a training step makes no garbage once the
// first has run. Buffers come back dirty. Sizes are rounded up to a quarter of a
// power of two, so that batches of varying length share them.
type arena struct {
	mu   sync.Mutex
	free map[int][][]float32
}

// sizeClass returns the smallest (4+q)·2^e ≥ n with q in 0..3.
func sizeClass(n int) int {
	if n <= 64 {
		return 64
	}
	step := 1 << (bits.Len(uint(n-1)) - 3)
	return (n + step - 1) / step * step
}

func (a *arena) get(n int) []float32 {
	c := sizeClass(n)
	a.mu.Lock()
	defer a.mu.Unlock()
	if list := a.free[c]; len(list) > 0 {
		buf := list[len(list)-1]
		a.free[c] = list[:len(list)-1]
		return buf[:n]
	}
	return make([]float32, n, c)
}

func (a *arena) put(buf []float32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.free == nil {
		a.free = map[int][][]float32{}
	}
	a.free[cap(buf)] = append(a.free[cap(buf)], buf)
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

// drop lets all free buffers go.
func (a *arena) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free = nil
}
