package kernel

import "sync"

// stock keeps what products work with while none of them does: as much as was used at
// once, for the program's life. A sync.Pool would be emptied at every collection of
// garbage, and filled again with garbage to be.
type stock[T any] struct {
	mu   sync.Mutex
	idle []*T
	make func() *T
}

func (s *stock[T]) take() *T {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.idle)
	if n == 0 {
		return s.make()
	}
	x := s.idle[n-1]
	s.idle = s.idle[:n-1]
	return x
}

func (s *stock[T]) put(x *T) {
	s.mu.Lock()
	s.idle = append(s.idle, x)
	s.mu.Unlock()
}

// panelStock keeps packed matrices, of which a thread has one and the caller of a
// product on all threads a large one.
type panelStock struct {
	mu   sync.Mutex
	idle [][]float32
}

// smallPanel is the most floats of a panel made to measure. A larger one has largePanel
// at once: pages that are not written to cost nothing, and growing by and by would leave
// garbage.
const (
	smallPanel = 1 << 15
	largePanel = 1 << 21
)

// take returns n floats with unspecified contents: the least of the idle panels that
// have them, or a new one instead of the largest.
func (s *panelStock) take(n int) []float32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	best, largest := -1, -1
	for i, p := range s.idle {
		if cap(p) >= n && (best < 0 || cap(p) < cap(s.idle[best])) {
			best = i
		}
		if largest < 0 || cap(p) > cap(s.idle[largest]) {
			largest = i
		}
	}
	size := max(n, smallPanel)
	if size > smallPanel {
		size = max(n, largePanel)
	}
	at := best
	if best < 0 {
		at = largest
	}
	var p []float32
	if at >= 0 {
		last := len(s.idle) - 1
		p, s.idle[at] = s.idle[at], s.idle[last]
		s.idle[last] = nil
		s.idle = s.idle[:last]
	}
	if cap(p) < n {
		p = make([]float32, size)
	}
	return p[:n]
}

func (s *panelStock) put(p []float32) {
	s.mu.Lock()
	s.idle = append(s.idle, p)
	s.mu.Unlock()
}
