package bundle

// template is a way to tell a problem: {N} is a person, {he} and {He} the pronoun,
// {M} another person, {things} what they have, {a}, {b} and {c} the numbers, in the
// order of the rule.
type template struct {
	text string
	rule rule
}

// oneStep are the problems of one addition or subtraction.
var oneStep = []template{
	{"{N} has {a} {things}. {He} buys {b} more. How many {things} does {N} have now?", add},
	{"{N} has {a} {things} and {M} has {b} {things}. How many {things} do they have together?", add},
	{"{N} found {a} {things} and then found {b} more. How many {things} did {he} find?", add},
	{"{M} gives {N} {b} {things}. {N} had {a} before. How many {things} does {N} have now?", add},
	{"There are {a} {things} on the table and {b} in the box. How many {things} are there?", add},
	{"A pen costs {a} cents and a cup costs {b} cents. How many cents do both cost?", add},
	{"{N} walks {a} miles and then {b} miles more. How many miles does {he} walk?", add},
	{"{N} is {a} years old. How old will {he} be in {b} years?", add},
	{"{M} is {a} years old. {N} is {b} years older. How old is {N}?", add},
	{"There were {a} birds in a tree and {b} more came. How many birds are in the tree?", add},
	{"A ship sails {a} days north and {b} days south. How many days does it sail?", add},
	{"{N} read {a} pages today and {b} pages yesterday. How many pages did {he} read?", add},

	{"{N} has {a} {things}. {He} gives {b} to {M}. How many {things} are left?", subtract},
	{"{N} had {a} {things} and lost {b} of them. How many {things} does {he} have now?", subtract},
	{"{N} has {a} {things} and {M} has {b}. How many more {things} does {N} have?", subtract},
	{"There were {a} {things} in a box. {N} took {b}. How many {things} are in the box?", subtract},
	{"{N} has {a} cents. {He} spends {b} cents. How many cents are left?", subtract},
	{"The town is {a} miles away. {N} has walked {b} miles. How many miles are left?", subtract},
	{"{N} is {a} years old. How old was {he} {b} years ago?", subtract},
	{"{N} is {a} years old and {M} is {b}. How many years older is {N}?", subtract},
	{"There were {a} birds in a tree and {b} flew away. How many birds are in the tree?", subtract},
	{"A book has {a} pages. {N} has read {b}. How many pages are left?", subtract},
	{"{N} needs {a} {things} and has {b}. How many more {things} does {he} need?", subtract},
	{"{N} sold {b} of {a} {things}. How many {things} are left?", subtract},
}

// products are the problems of one multiplication or division.
var products = []template{
	{"{N} has {a} boxes with {b} {things} in each. How many {things} does {he} have?", multiply},
	{"One of the {things} costs {b} cents. How many cents do {a} of them cost?", multiply},
	{"{N} walks {b} miles a day for {a} days. How many miles does {he} walk?", multiply},
	{"There are {a} rows of {b} {things}. How many {things} are there?", multiply},
	{"{a} friends have {b} {things} each. How many {things} do they have together?", multiply},
	{"{N} reads {b} pages a day. How many pages does {he} read in {a} days?", multiply},
	{"{N} shares {a} {things} among {b} friends. How many {things} does each friend get?", share},
	{"{N} puts {a} {things} into {b} boxes, the same in each. How many {things} are in a box?", share},
	{"{b} cups cost {a} cents. How many cents does one cup cost?", share},
	{"{N} walks {a} miles in {b} days, the same each day. How many miles is that a day?", share},
}

// twoSteps are the problems of two operations.
var twoSteps = []template{
	{"{N} has {a} {things}. {He} buys {b} and finds {c} more. How many {things} does {he} have now?", addAdd},
	{"{N} walks {a} miles, then {b} miles, then {c} miles. How many miles does {he} walk?", addAdd},
	{"{N} has {a} {things}. {He} buys {b} and gives {c} to {M}. How many {things} does {he} have now?", addSubtract},
	{"There are {a} red {things} and {b} blue {things}. {N} takes {c}. How many {things} are left?", addSubtract},
	{"{N} has {a} cents. {He} spends {b} cents and then {c} cents. How many cents are left?", subtractTwo},
	{"{N} has {a} {things}. {He} gives {b} to {M} and loses {c}. How many {things} are left?", subtractTwo},
	{"There were {a} birds in a tree. {b} flew away and {c} came. How many birds are in the tree?", swap},
	{"{N} had {a} {things}. {He} sold {b} and bought {c}. How many {things} does {he} have now?", swap},
	{"{N} has {a} boxes with {b} {things} in each and {c} more. How many {things} does {he} have?", multiplyAdd},
	{"{N} buys {a} cups for {b} cents each and a pen for {c} cents. How many cents does {he} pay?", multiplyAdd},
	{"{N} has {a} boxes with {b} {things} in each. {He} sells {c}. How many {things} are left?", multiplySub},
	{"There are {a} rows of {b} {things}. {N} takes {c}. How many {things} are left?", multiplySub},
}

type person struct{ name, he string }

var people = []person{
	{"Tom", "he"}, {"Anna", "she"}, {"Ben", "he"}, {"Mary", "she"}, {"John", "he"}, {"Lucy", "she"},
	{"Sam", "he"}, {"Jane", "she"}, {"Paul", "he"}, {"Rose", "she"}, {"Will", "he"}, {"Kate", "she"},
}

var things = []string{
	"apples", "books", "cards", "coins", "eggs", "flowers", "keys", "nuts", "pears", "plates", "shells", "stones",
}
