//! The accuracy of answers to questions about images, as VQA's evaluation has it (arXiv 1505.00468).

/// Words that stand for numbers.
const NUMBERS: [&str; 11] = [
    "none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
];

const ARTICLES: [&str; 3] = ["a", "an", "the"];

/// The share of an answer: min(n/3, 1), where n people gave it, averaged over leaving out each of the
/// people in turn. Of fewer than four people one is enough.
///
/// - answers: of people, at least one
pub fn vqa_accuracy(predicted: &str, answers: &[String]) -> f64 {
    let predicted = normalised(predicted);
    let agrees: Vec<bool> = answers
        .iter()
        .map(|answer| normalised(answer) == predicted)
        .collect();
    let all = agrees.iter().filter(|agrees| **agrees).count();
    if answers.len() < 4 {
        return f64::from(u8::from(all > 0));
    }
    let shares = agrees.iter().map(|&left_out| {
        let others = all - usize::from(left_out);
        (others as f64 / 3.0).min(1.0)
    });
    shares.sum::<f64>() / answers.len() as f64
}

/// An answer without what does not tell it from another: case, punctuation, articles; numbers in digits.
///
/// Punctuation between digits (`1.5`, `12:30`) and apostrophes stay.
fn normalised(answer: &str) -> String {
    let letters: Vec<char> = answer.trim().to_lowercase().chars().collect();
    let is_digit = |place: Option<usize>| {
        place
            .and_then(|place| letters.get(place))
            .is_some_and(char::is_ascii_digit)
    };
    let plain: String = letters
        .iter()
        .enumerate()
        .map(|(place, &letter)| {
            let is_in_number = is_digit(place.checked_sub(1))
                && is_digit(Some(place + 1))
                && ".,:".contains(letter);
            match letter.is_alphanumeric() || letter == '\'' || is_in_number {
                true => letter,
                false => ' ',
            }
        })
        .collect();
    let words = plain
        .split_whitespace()
        .filter(|word| !ARTICLES.contains(word))
        .map(
            |word| match NUMBERS.iter().position(|number| *number == word) {
                Some(number) => number.to_string(),
                None => word.to_owned(),
            },
        );
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people(answers: &[&str]) -> Vec<String> {
        answers.iter().map(|&answer| answer.to_owned()).collect()
    }

    #[test]
    fn an_answer_of_three_people_of_ten_is_right_but_for_those_left_out() {
        let ten = |right: usize| {
            let answers = (0..10).map(|person| if person < right { "red" } else { "blue" });
            vqa_accuracy("red", &people(&answers.collect::<Vec<_>>()))
        };
        // Leaving out one of the three leaves two thirds: (3 · 2/3 + 7 · 1) / 10.
        assert!((ten(3) - 0.9).abs() < 1e-12);
        assert!((ten(1) - 0.3).abs() < 1e-12);
        assert_eq!((ten(0), ten(4), ten(10)), (0.0, 1.0, 1.0));
    }

    #[test]
    fn answers_are_compared_without_case_articles_and_punctuation() {
        let one = |predicted: &str, answer: &str| vqa_accuracy(predicted, &people(&[answer]));
        assert_eq!(one(" The red fox. ", "red fox"), 1.0);
        assert_eq!(one("two", "2"), 1.0);
        assert_eq!(one("1.5", "15"), 0.0);
        assert_eq!(one("black-white", "black white"), 1.0);
        assert_eq!(one("red", "blue"), 0.0);
    }
}
