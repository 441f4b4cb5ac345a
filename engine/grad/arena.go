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

// drop lets all free buffers go.
func (a *arena) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free = nil
}
