package bundle

import (
	"fmt"
	"go/token"
	"go/types"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// reader recognises the problems of a template and finds their numbers.
type reader struct {
	pattern *regexp.Regexp
	rule    string
}

// readers are made from the texts of the templates alone.
func readers() []reader {
	var all []reader
	for _, t := range slices.Concat(oneStep, products, twoSteps) {
		p := regexp.QuoteMeta(t.text)
		for _, v := range []string{"a", "b", "c"} {
			p = strings.Replace(p, `\{`+v+`\}`, `(?P<`+v+`>\d+)`, 1)
		}
		p = regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(p, `\w+`)
		all = append(all, reader{regexp.MustCompile("^" + p + "$"), string(t.rule)})
	}
	return all
}

// recognise returns the rule of the question with its numbers put in, and the name of
// the exercise: its template and numbers.
func recognise(t *testing.T, all []reader, question string) (expression, exercise string) {
	t.Helper()
	found := 0
	for i, r := range all {
		m := r.pattern.FindStringSubmatch(question)
		if m == nil {
			continue
		}
		found++
		expression, exercise = r.rule, fmt.Sprint(i)
		for _, v := range []string{"a", "b", "c"} {
			if at := r.pattern.SubexpIndex(v); at >= 0 {
				expression = regexp.MustCompile(`\b`+v+`\b`).ReplaceAllString(expression, m[at])
				exercise += " " + m[at]
			}
		}
	}
	if found != 1 {
		t.Fatalf("%d templates fit %q", found, question)
	}
	return expression, exercise
}

// Go's own constant arithmetic answers what the numbers in the question say. It is
// exact: 7 / 2 of untyped floats would not be an integer.
func evaluate(t *testing.T, expression string) int {
	t.Helper()
	exact := regexp.MustCompile(`\d+`).ReplaceAllString(expression, "$0.0")
	v, err := types.Eval(token.NewFileSet(), nil, token.NoPos, exact)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(v.Value.ExactString())
	if err != nil {
		t.Fatalf("%s is not a whole number: %v", expression, err)
	}
	return n
}

func TestArithmeticAnswers(t *testing.T) {
	all := readers()
	problems := Arithmetic(7, 5000)
	answers, rules := map[string]int{}, map[string]int{}
	small := 0
	for _, p := range problems {
		expression, _ := recognise(t, all, p.Question)
		want := evaluate(t, expression)
		if p.Answer != strconv.Itoa(want) {
			t.Errorf("%q: answer %s, but %s = %d", p.Question, p.Answer, expression, want)
		}
		if want < 0 || want > 99 {
			t.Errorf("%q: the answer %d is out of range", p.Question, want)
		}
		if want <= 50 {
			small++
		}
		answers[p.Answer]++
		rules[regexp.MustCompile(`\d+`).ReplaceAllString(expression, "n")]++
	}
	for answer, n := range answers {
		if n*100 >= 12*len(problems) {
			t.Errorf("%d of %d answers are %s", n, len(problems), answer)
		}
	}
	if len(answers) < 40 {
		t.Errorf("only %d answers occur", len(answers))
	}
	if small*100 < 98*len(problems) {
		t.Errorf("only %d of %d answers are up to 50", small, len(problems))
	}
	if easy := rules["n + n"] + rules["n - n"]; easy*2 < len(problems) {
		t.Errorf("only %d of %d problems add or subtract once", easy, len(problems))
	}
	if len(rules) != 10 {
		t.Errorf("%d rules occur, want all ten: %v", len(rules), rules)
	}
}

func TestArithmeticRepeats(t *testing.T) {
	a, b := Arithmetic(1, 300), Arithmetic(1, 300)
	if !slices.Equal(a, b) {
		t.Error("the same seed gave other problems")
	}
	if slices.Equal(a, Arithmetic(2, 300)) {
		t.Error("another seed gave the same problems")
	}
	if !slices.Equal(a[:100], Arithmetic(1, 100)) {
		t.Error("the first problems depend on how many follow")
	}
}

func TestArithmeticSplitsShareNothing(t *testing.T) {
	all := readers()
	train, valid, test := ArithmeticSplits(4000, 300, 500)
	if len(train) != 4000 || len(valid) != 300 || len(test) != 500 {
		t.Fatalf("%d, %d and %d problems", len(train), len(valid), len(test))
	}
	seen := map[string]string{}
	for _, p := range slices.Concat(train, valid, test) {
		_, exercise := recognise(t, all, p.Question)
		if other, ok := seen[exercise]; ok {
			t.Errorf("the same exercise twice: %q and %q", other, p.Question)
		}
		seen[exercise] = p.Question
	}
	if _, _, again := ArithmeticSplits(10, 10, 500); !slices.Equal(test, again) {
		t.Error("the test problems depend on the size of the other splits")
	}
}

func TestArithmeticFormat(t *testing.T) {
	p := Problem{Question: "Tom has 2 nuts. He buys 3 more. How many nuts does Tom have now?", Answer: "5"}
	if got, want := p.Prompt()+p.Completion(), "Question: "+p.Question+" Answer: 5\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestArithmeticMost(t *testing.T) {
	if n := len(Arithmetic(1, maxProblems)); n != maxProblems {
		t.Errorf("%d problems, want %d", n, maxProblems)
	}
}
