"""A model from JSON."""

import pydantic


class City(pydantic.BaseModel):
    name: str
    people: int


print(City.model_validate_json('{"name": "A", "people": "3"}'))
