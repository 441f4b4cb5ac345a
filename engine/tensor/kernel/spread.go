package kernel

import (
	"reflect"
	"sync"
)

// Spread is Parallel for a loop that gets what it reads as an argument instead of
// capturing it. What several threads see lies on the heap: a closure is garbage after
// every call, while Spread's copy of a is kept for the next call with its type. f
// captures nothing, or the saving is lost.
func Spread[A any](n, grain int, a A, f func(a *A, lo, hi int)) {
	if n <= 0 {
		return
	}
	t := borrow[A]()
	t.a, t.f = a, f
	Parallel(n, grain, t.run)
	var none A
	t.a, t.f = none, nil // keep no pointer into the caller's memory
	giveBack(t)
}

// task is a loop and what it reads.
type task[A any] struct {
	a   A
	f   func(a *A, lo, hi int)
	run func(lo, hi int) // part, bound once
}

func (t *task[A]) part(lo, hi int) { t.f(&t.a, lo, hi) }

// idle are the tasks that nobody uses: as many of a type as ran at once.
var idle = struct {
	sync.Mutex
	tasks map[reflect.Type][]any // A → *task[A]
}{tasks: map[reflect.Type][]any{}}

func borrow[A any]() *task[A] {
	of := reflect.TypeFor[A]()
	idle.Lock()
	defer idle.Unlock()
	if list := idle.tasks[of]; len(list) > 0 {
		idle.tasks[of] = list[:len(list)-1]
		return list[len(list)-1].(*task[A])
	}
	t := new(task[A])
	t.run = t.part
	return t
}

func giveBack[A any](t *task[A]) {
	of := reflect.TypeFor[A]()
	idle.Lock()
	idle.tasks[of] = append(idle.tasks[of], t)
	idle.Unlock()
}
