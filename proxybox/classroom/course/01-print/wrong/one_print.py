print("+----------------+", "| LEMONADE STAND |", "+----------------+", "", "It's cold, and it's sweet.", "One cup: 50 cents")
