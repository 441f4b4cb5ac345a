package bundle

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"tare/engine/data"
)

// Problem is a word problem whose answer is one small number.
type Problem struct {
	Question string
	Answer   string // digits alone
}

// Prompt is the problem as a model reads it.
func (p Problem) Prompt() string { return "Question: " + p.Question + " Answer:" }

// Completion is what a model has to write after the prompt.
func (p Problem) Completion() string { return " " + p.Answer + "\n" }

// Records are problems as training data.
func Records(ps []Problem) []data.Record {
	rs := make([]data.Record, len(ps))
	for i, p := range ps {
		rs[i] = data.Record{Prompt: p.Prompt(), Completion: p.Completion()}
	}
	return rs
}

// maxProblems is how many problems one call may draw; the templates with small
// numbers would run out beyond it.
const maxProblems = 50_000

// Arithmetic draws n problems, at most 50,000: a little over half add or subtract up
// to 20, a sixth up to 50, a sixth multiply or share, the rest take two steps. The
// same seed gives the same problems. No two have the same wording and numbers.
func Arithmetic(seed uint64, n int) []Problem {
	checkProblems(n)
	return draw(seed, n, map[exercise]bool{})
}

// ArithmeticSplits draws problems to learn from, to choose settings by and to
// report; no two, in one split or in different ones, have the same wording and
// numbers. The test problems depend on nTest alone. All together are at most 50,000.
func ArithmeticSplits(nTrain, nValid, nTest int) (train, valid, test []Problem) {
	checkProblems(nTrain, nValid, nTest)
	used := map[exercise]bool{}
	test = draw(3, nTest, used)
	valid = draw(2, nValid, used)
	train = draw(1, nTrain, used)
	return train, valid, test
}

func checkProblems(counts ...int) {
	sum := 0
	for _, n := range counts {
		if sum += n; n < 0 || sum > maxProblems {
			panic(fmt.Sprintf("bundle: %d arithmetic problems: 0 to %d are possible", counts, maxProblems))
		}
	}
}

// exercise is a template and its numbers, whoever it is about.
type exercise struct {
	template *template
	numbers  [3]int
}

// draw adds what it draws to used.
func draw(seed uint64, n int, used map[exercise]bool) []Problem {
	const stream = 0x617269746865 // "arithe": apart from other uses of the same seed
	rng := rand.New(rand.NewPCG(seed, stream))
	problems := make([]Problem, 0, n)
	for len(problems) < n {
		e := pick(rng)
		if used[e] {
			continue
		}
		used[e] = true
		problems = append(problems, e.write(rng))
	}
	return problems
}

// pick draws an exercise by difficulty.
func pick(rng *rand.Rand) exercise {
	level := rng.IntN(100)
	switch {
	case level < 54:
		t := choose(rng, oneStep)
		return exercise{t, t.rule.draw(rng, 20)}
	case level < 70:
		t := choose(rng, oneStep)
		return exercise{t, t.rule.draw(rng, 50)}
	case level < 86:
		t := choose(rng, products)
		return exercise{t, t.rule.draw(rng, 50)}
	default:
		t := choose(rng, twoSteps)
		return exercise{t, t.rule.draw(rng, 30)}
	}
}

func choose(rng *rand.Rand, from []template) *template { return &from[rng.IntN(len(from))] }

// write puts people, things and the numbers into the template.
func (e exercise) write(rng *rand.Rand) Problem {
	first := people[rng.IntN(len(people))]
	second := people[rng.IntN(len(people))]
	for second == first {
		second = people[rng.IntN(len(people))]
	}
	a, b, c := e.numbers[0], e.numbers[1], e.numbers[2]
	question := strings.NewReplacer(
		"{N}", first.name, "{he}", first.he, "{He}", strings.ToUpper(first.he[:1])+first.he[1:],
		"{M}", second.name,
		"{things}", things[rng.IntN(len(things))],
		"{a}", strconv.Itoa(a), "{b}", strconv.Itoa(b), "{c}", strconv.Itoa(c),
	).Replace(e.template.text)
	return Problem{Question: question, Answer: strconv.Itoa(e.template.rule.answer(a, b, c))}
}

// rule is what the numbers of a problem are put through, written as in Go.
type rule string

const (
	add         rule = "a + b"
	subtract    rule = "a - b"
	multiply    rule = "a * b"
	share       rule = "a / b"
	addAdd      rule = "a + b + c"
	addSubtract rule = "a + b - c"
	subtractTwo rule = "a - b - c"
	swap        rule = "a - b + c"
	multiplyAdd rule = "a * b + c"
	multiplySub rule = "a * b - c"
)

func (r rule) answer(a, b, c int) int {
	switch r {
	case add:
		return a + b
	case subtract:
		return a - b
	case multiply:
		return a * b
	case share:
		return a / b
	case addAdd:
		return a + b + c
	case addSubtract:
		return a + b - c
	case subtractTwo:
		return a - b - c
	case swap:
		return a - b + c
	case multiplyAdd:
		return a*b + c
	case multiplySub:
		return a*b - c
	}
	panic("bundle: no answer by the rule " + string(r))
}

// draw picks numbers of two or more, so that nouns stay in the plural. In sums the
// result, in differences what is left, is drawn evenly up to top: numbers drawn
// evenly would give a few answers most of the time.
func (r rule) draw(rng *rand.Rand, top int) [3]int {
	between := func(low, high int) int { return low + rng.IntN(high-low+1) }
	switch r {
	case add:
		sum := between(4, top)
		a := between(2, sum-2)
		return [3]int{a, sum - a}
	case subtract:
		left := between(0, top-2)
		b := between(2, top-left)
		return [3]int{left + b, b}
	case multiply:
		a := between(2, 10)
		return [3]int{a, between(2, min(10, top/a))}
	case share:
		b := between(2, 9)
		return [3]int{b * between(2, max(2, min(10, top/b))), b}
	case addAdd:
		sum := between(6, top)
		a := between(2, sum-4)
		b := between(2, sum-a-2)
		return [3]int{a, b, sum - a - b}
	case addSubtract:
		sum := between(4, top)
		a := between(2, sum-2)
		return [3]int{a, sum - a, between(2, sum)}
	case subtractTwo:
		left := between(0, top-4)
		b := between(2, top-left-2)
		c := between(2, top-left-b)
		return [3]int{left + b + c, b, c}
	case swap:
		a := between(4, top)
		return [3]int{a, between(2, a), between(2, top)}
	case multiplyAdd:
		return [3]int{between(2, 5), between(2, 6), between(2, 10)}
	case multiplySub:
		a, b := between(2, 5), between(2, 6)
		return [3]int{a, b, between(2, a*b)}
	}
	panic("bundle: no numbers for the rule " + string(r))
}
