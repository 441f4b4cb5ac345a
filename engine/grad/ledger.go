package grad

import (
	"fmt"
	"sync"
)

// Kind says what a buffer is held for.
type Kind uint8

// The kinds of memory the ledger tells apart.
const (
	Weights     Kind = iota // the model's parameters, trained or frozen
	Gradients               // gradients of parameters, from first contribution to the sink's return
	Optimizer               // optimizer state
	Activations             // values of the forward pass, kept or passing through
	Scratch                 // gradients of activations, packing and temporary space
	Kinds                   // how many kinds there are
)

var kindNames = [Kinds]string{"weights", "gradients", "optimizer", "activations", "scratch"}

// String returns the lower-case name used in records.
func (k Kind) String() string {
	if k < Kinds {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Ledger accounts for bytes by kind: what is held now, the peak of each kind, and
// the peak of their sum. It counts what was asked for, not what an allocator
// rounds it to. It is safe for concurrent use; a nil Ledger counts nothing.
type Ledger struct {
	mu        sync.Mutex
	now, peak [Kinds]int64
	sum, top  int64
}

// Add records n more bytes of kind k, or fewer when n is negative.
func (l *Ledger) Add(k Kind, n int64) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now[k] += n
	l.sum += n
	l.peak[k] = max(l.peak[k], l.now[k])
	l.top = max(l.top, l.sum)
}

// Now returns the bytes of kind k held at present.
func (l *Ledger) Now(k Kind) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now[k]
}

// Peak is the most bytes held at once: of each kind by itself, and of all
// together (which is at most the sum of the former).
type Peak struct {
	Weights     int64 `json:"weights"`
	Gradients   int64 `json:"gradients"`
	Optimizer   int64 `json:"optimizer"`
	Activations int64 `json:"activations"`
	Scratch     int64 `json:"scratch"`
	Total       int64 `json:"total"`
}

// Peak returns the peaks since the ledger was made or ResetPeak was called.
func (l *Ledger) Peak() Peak {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peak
	return Peak{p[Weights], p[Gradients], p[Optimizer], p[Activations], p[Scratch], l.top}
}

// ResetPeak starts a new measurement from what is held now.
func (l *Ledger) ResetPeak() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peak, l.top = l.now, l.sum
}
