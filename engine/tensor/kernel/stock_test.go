package kernel

import (
	"runtime"
	"testing"
)

// What products work with outlives a collection of garbage.
func TestProductsKeepTheirMemory(t *testing.T) {
	const n = 300
	a, b, c := noise(n*n), noise(n*n), make([]float32, n*n)
	run := func() {
		Gemm(c, n, n, n, n, Operand{F32: a, LD: n}, Operand{F32: b, LD: n, Trans: true}, GemmOptions{})
	}
	run()
	var before, after runtime.MemStats
	least := ^uint64(0)
	for range 5 { // a worker may join late, and bring a workspace of its own
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&before)
		run()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if least > 4<<10 {
		t.Errorf("a product allocates %d bytes after a collection, want next to none", least)
	}
}

// Panels are handed out by size: a small product does not take the large one.
func TestPanelsFit(t *testing.T) {
	var s panelStock
	large, small := s.take(largePanel), s.take(100)
	s.put(large)
	s.put(small)
	if p := s.take(50); &p[0] != &small[0] {
		t.Error("a small product has the large panel")
	}
	if p := s.take(smallPanel + 1); &p[0] != &large[0] {
		t.Error("a large product has a new panel")
	}
	s.put(large)
	if p := s.take(largePanel + 1); len(p) != largePanel+1 || len(s.idle) != 0 {
		t.Errorf("a larger panel of %d values, %d idle; want it to replace the large one", len(p), len(s.idle))
	}
}
