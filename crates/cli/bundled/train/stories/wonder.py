"""Plots with a little magic or a long way: a dragon, a wish, a fallen star, a magic thing, a boaster, a winter store, an outing."""

from .grammar import table

DRAGON = {
    "rows": table("big home_of need use", [
        ("a big green dragon", "a cave in the mountains", "{h} saw that a thorn was stuck in its foot, and {he} pulled it out", "From then on, the dragon lit the lamps in the village every evening with its warm breath."),
        ("a giant", "a house as tall as a tree", "It only wanted someone to talk to", "The giant carried the children on its shoulders, and they could see the sea."),
        ("a gray wolf", "the dark woods", "It was old, and it was cold and hungry", "The wolf slept by the fire and kept watch over the village at night."),
        ("a huge bear", "a cave behind the hill", "It had a bad tooth, and it was crying", "The bear showed them where to find the best honey."),
        ("a strange monster with blue fur", "the old tower", "It was afraid of people", "The monster knitted a pair of warm blue socks for everyone."),
        ("a great big whale", "the deep bay", "A net was caught around its tail, and {h} cut the net", "The whale showed the fishermen where to find the most fish."),
        ("a metal robot", "the old factory", "It was rusty, and {h} put oil on its arms and legs", "The robot swept the streets every morning and said, \"Beep, good day!\""),
    ]),
    "openings": ["Everyone was afraid of {big}.", "Near the village, in {home_of}, lived {big}.", "\"Do not go there,\" people said. \"There lives {big}!\""],
    "beats": [
        ["Near {h}'s home, in {home_of}, lived {big}. Everyone was afraid of it.", "People said that {big} lived in {home_of}. Nobody dared to go there.", "{One_day} {big} came to live in {home_of}. Everyone locked their doors."],
        ["\"It will eat us all!\" people said. But {h} was not so sure.", "At night, they could hear it roar. But to {h}, it sounded like crying.", "\"Has anyone ever talked to it?\" asked {h}. Nobody had."],
        ["So {h} took some {food} and went to see for {him}self. {His} knees were shaking.", "Early one morning, {h} went there all alone. {H} took {a_find} and some {food} with {him}.", "{h} was scared, but {he} wanted to know the truth. So {he} went."],
        ["\"Hello?\" said {h}. Two big eyes looked at {him}. \"Are you not afraid of me?\" asked a deep voice.", "\"Who is there?\" said a deep, sad voice. \"It is only me, {hv},\" said {h}.", "It was very big. {h} swallowed. \"Good morning,\" {he} said politely."],
        ["\"I am a little afraid,\" said {h}. \"But you look sad. What is wrong?\" {need}.", "{h} came closer and saw that it was not bad at all. {need}."],
        ["\"Thank you,\" it said, and a big tear fell down. \"Nobody was ever so kind to me.\"", "\"You are my first friend,\" it said, and it smiled a big smile.", "They shared the {food} and talked all day."],
        ["{h} brought it to the village. At first, everyone ran away. But {h} said, \"Do not be afraid. This is my friend.\"", "{h} went back and told everyone. \"It is kind,\" {he} said. \"You must not be afraid.\""],
        ["{use}"],
    ],
    "morals": ["Nobody was afraid anymore.", "{h} learned that you should not judge anyone by how they look.", "And all because {h} had been brave and kind."],
}

WISH = {
    "rows": table("giver how first trouble", [
        ("a fairy", "{h} had helped her out of a spider's web", "\"I wish for a mountain of candy!\"", "There was candy everywhere. {h} ate and ate, until {he} had a very bad tummy ache."),
        ("a golden fish", "{h} had put it back in the water", "\"I wish to be as tall as a tree!\"", "{H} could not go into {his} house, and nobody could hear {him}."),
        ("a tiny old man with a long beard", "{h} had found his hat", "\"I wish that everything I touch turns to gold!\"", "Then {his} bread turned to gold, and {he} could not eat it."),
        ("a talking bird", "{h} had given it some bread", "\"I wish that it would be summer all the time!\"", "Soon the river was dry, and the flowers were thirsty."),
        ("a star", "{h} had waved at it every night", "\"I wish that I never had to go to bed!\"", "Soon {h} was so tired that {he} could not even play."),
        ("a kind witch", "{h} had picked up her broom", "\"I wish for all the toys in the world!\"", "Now the other children had no toys, and nobody smiled."),
        ("a white horse with silver wings", "{h} had brushed its mane", "\"I wish that I could fly!\"", "{h} flew up and up, but then {he} was too high and could not come down."),
    ]),
    "openings": ["{h} wanted to make a wish. Then, {one_time}, {he} met {giver}. \"You may make {number} wishes,\" said {the_giver}.", "{h} met {giver} near {place}. \"You may have {number} wishes,\" said {the_giver}, because {how}."],
    "beats": [
        ["{One_day} {h} met {giver} near {place}. {how}. \"You are kind,\" said {the_giver}. \"You may have {number} wishes.\"", "{One_day} {giver} came to {h}, because {how}. \"You may make {number} wishes,\" said {the_giver}."],
        ["{h} did not think for long. {first} {he} said.", "\"Really?\" said {h}. {H} jumped for joy. {first} {he} said."],
        ["And it came true! At first, it was wonderful.", "There was a flash of light, and it was so.", "Poof! It happened at once. {h} was very happy."],
        ["But then there was a problem. {trouble}", "But it was not as good as {he} thought. {trouble}"],
        ["\"Oh no,\" said {h}. \"This is not what I wanted.\"", "{h} sat down and cried. \"I was silly,\" {he} said.", "{h} thought about it for a long time."],
        ["\"I wish that everything was as it was before,\" {he} said. And so it was.", "So {h} used a wish to make everything as it was before."],
        ["There was one wish left. \"I wish for [a happy day for everyone|a good friend|{p} to be happy],\" said {h}. And {the_giver} smiled.", "\"Do you want another wish?\" asked {the_giver}. \"No, thank you,\" said {h}. \"I have all I need.\"", "\"Now you are wise,\" said {the_giver}, and disappeared."],
    ],
    "morals": ["{h} learned to be happy with what {he} had.", "{h} learned to think before making a wish.", "The best things cannot be wished for."],
}

STAR = {
    "night": True,
    "rows": table("thing climb", [
        ("a little star", "they tied a long, long rope to a kite, and up it went"), ("a little star", "an old owl took it on its back and flew up into the night"), ("a tiny star", "they climbed the highest mountain, and {h} lifted it up with both hands"),
        ("a small cloud", "they waited for a strong wind, and it carried the cloud up again"), ("a drop of moonlight", "they put it on the water, and it floated back up to the moon"), ("a piece of the rainbow", "they held it up in the rain, and it slid back into place"),
    ]),
    "openings": ["{h} saw something bright falling from the sky.", "{h} wanted to touch the stars. And then, one night, a light fell down from the sky."],
    "beats": [
        ["One night, {h} saw a light falling from the sky. It fell down near {place}.", "One evening, {h} was looking at the sky. Suddenly, something fell down, bright and slow."],
        ["{h} ran to look. There, {spot}, was {thing}. It was crying.", "{h} followed the light, and {spot}, {he} found {thing}."],
        ["\"I fell down,\" it said, \"and I cannot get home.\"", "\"Please help me,\" it said in a very small voice. \"I belong in the sky.\""],
        ["{h} wanted to keep it, because it was so beautiful. But it was so sad that {he} said, \"I will help you.\"", "\"Do not cry,\" said {h}. \"We will find a way.\"", "{h} held it in {his} hands. It was warm."],
        ["First {he} threw it up as high as {he} could, but it fell down again. Then {he} climbed on the roof, but that was not high enough.", "{h} went to {f}. \"How can we get it back into the sky?\" {he} asked. {f} thought and thought."],
        ["Then they had an idea. With the help of {f}, {climb}.", "\"I know!\" said {f}. And so {climb}."],
        ["\"Thank you, {hv}!\" it called from far above.", "It shone brighter than before. \"I will never forget you,\" it said."],
        ["Every night, {h} looks up and waves. And every night, it winks back.", "And when {h} cannot sleep, there is a small light in the window."],
    ],
    "morals": ["{h} knew that {he} had done the right thing.", "{h} was sad to say goodbye, but {he} was happy, too."],
}

BOAST = {
    "hero": "animal", "friend": "animal",
    "rows": table("claim event", [
        ("the strongest", "a tree fell across the path, and nobody could move it"), ("the fastest", "the river rose, and everyone had to get to the hill"), ("the smartest", "the door of the big barn was locked, and all the food was inside"),
        ("the bravest", "a strange sound came out of the old cave"), ("the best jumper", "the bridge broke, and they could not get over the stream"), ("the most beautiful", "it rained so hard that everyone was covered in mud"),
    ]),
    "openings": ["{h} was proud. \"I am {claim} of all,\" {he} said every day.", "\"I am {claim} in the whole forest!\" said {h}."],
    "beats": [
        ["But {h} liked to boast. \"I am {claim} of all!\" {he} said, again and again.", "{H} was proud. \"Nobody is like me,\" {he} said. \"I am {claim} of all.\""],
        ["{f}, {a_fkind}, was quiet and never said such things. \"You are so small,\" said {h}, and laughed.", "One of the others was {a_f}. {h} always laughed at {fhim}.", "The other animals did not like to hear it. \"We are all good at something,\" said {a_f}."],
        ["{One_day} {event}.", "Then, one night, {event}."],
        ["\"You can help us,\" they all said to {h}. {h} tried and tried, but {he} could not do it alone.", "{h} went first. But {he} slipped and fell into a bush, and everyone was quiet."],
        ["Then {f} said, \"I think I know what to do. But I need all of you.\"", "\"Let us do it together,\" said {f} in a soft voice."],
        ["They all helped, the big ones and the small ones. And soon it was done.", "One pushed, one pulled, and one told them when. Together they did it."],
        ["{h} was ashamed. \"I am sorry that I laughed at you,\" {he} said to {f}.", "\"You are better than I am,\" said {h}. \"No,\" said {f}. \"We are better together.\"", "{h} looked at {f}. \"Thank you,\" {he} said. \"I was wrong.\""],
    ],
    "morals": ["{h} never boasted again.", "{h} learned that nobody is too small to help.", "Together we can do more than alone."],
}

STORE = {
    "night": True, "at_home": True,
    "hero": "animal", "friend": "animal",
    "rows": table("work", [("gathered nuts and seeds",), ("carried corn to {fhis} house",), ("dried berries in the sun",), ("filled {fhis} house with apples",), ("put away hay and grain",)]),
    "openings": ["It was summer, and {h} liked to lie in the sun."],
    "beats": [
        ["All summer long, {h} played and sang in the sun.", "In the summer, {h} slept late and danced every day."],
        ["{his} neighbor, {a_f}, worked every day. {fhe} {work}.", "Next door lived {a_f}. Every day, {fhe} {work}."],
        ["\"Why do you work so hard?\" asked {h}. \"Come and play!\"", "\"Stop working and have some fun,\" said {h}."],
        ["\"Winter is coming,\" said {f}. \"You should get ready, too.\" But {h} only laughed.", "\"When it snows, there will be nothing to eat,\" said {f}. But {h} did not listen."],
        ["Then the leaves fell, and the snow came. {h} was cold and hungry. {H} had nothing to eat.", "Soon it was winter. The ground was white, and there was no food anywhere. {h}'s tummy rumbled."],
        ["{h} knocked on {f}'s door. \"Please,\" {he} said, \"can you help me?\"", "At last, {h} went to {f}. \"You were right,\" {he} said. \"I am so hungry.\""],
        ["{f} looked at {him} and opened the door wide. \"Come in,\" {fhe} said. \"There is enough for two.\"", "\"Sit down by the fire,\" said {f}, and gave {him} a bowl of hot soup."],
        ["To say thank you, {h} sang for {f} all winter long. And the next summer, {h} worked, too.", "The next summer, they worked together in the morning and played together in the afternoon."],
    ],
    "morals": ["There is a time to work and a time to play.", "{h} learned to think about tomorrow."],
}

OUTING = {
    "at_home": True,
    "rows": table("where saw_a saw_b bit", [
        ("the zoo", "a tall giraffe eating leaves", "two monkeys that were swinging on a rope", "A monkey took {his} hat and put it on its own head!"), ("the farm", "a cow with a brown spot", "five yellow chicks", "A goat ate the bow on {his} shoe!"),
        ("the market", "a man with a hundred balloons", "a table full of fresh bread", "{h} let go of {P}'s hand for a moment, and all at once there were only strangers. But then {P} called {his} name."),
        ("the sea", "a big white ship", "a crab that walked sideways", "A wave came and filled {his} boots with water!"), ("the circus", "a clown with a red nose", "a dog that could ride a bike", "The clown gave {h} a flower, and water came out of it!"),
        ("the library", "a shelf that was as high as the ceiling", "a book about the moon", "{h} sneezed so loudly that everyone looked up!"), ("the big city", "a tower that touched the clouds", "a train under the ground", "{h} waved at a bus, and the driver waved back!"),
        ("the train station", "a long, green train", "a man with a silver whistle", "The driver let {him} pull the whistle. Toot, toot!"), ("the lake", "a swan with four gray babies", "a red boat with a white sail", "{h} bent down too far and fell in with a splash. {P} pulled {him} out, and they both laughed."),
    ]),
    "openings": ["{h} wanted to go to {where}. \"Put on your shoes,\" said {P}. \"We are going!\"", "{h} was excited. Today {he} was going to {where} with {p}.", "\"Are we there yet?\" asked {h}. {H} was on {his} way to {where} with {p}."],
    "beats": [
        ["{One_day} {P} said, \"Today we will go to {where}!\" {h} jumped up and down.", "{One_day} {h} went to {where} with {p}.", "\"Can we go to {where}?\" asked {h}. \"Yes,\" said {P}. \"Put on your shoes!\""],
        ["They [packed some {food}|took the bus|walked hand in hand|went by train].", "It was not far. On the way, they sang songs.", "{h} wore {his} {c_wear}."],
        ["First they saw {saw_a}. \"Look!\" said {h}. Then they saw {saw_b}.", "There was so much to see! There was {saw_a}, and there was {saw_b}.", "\"What is that?\" asked {h}. It was {saw_a}. And behind it, there was {saw_b}."],
        ["Then something funny happened. {bit}", "{bit}"],
        ["At noon, they sat down and ate {food}.", "{P} bought {him} [an ice cream|a red balloon|a sweet bun|a cup of juice].", "{h} asked a hundred questions, and {P} knew almost all the answers."],
        ["When the sun went down, it was time to go home.", "At last, {h} was tired, and {P} carried {him} home.", "On the way back, {h} fell asleep with {his} head on {P}'s arm."],
        ["\"What did you like best?\" asked {P}. \"[Everything|Being with you|All of it]!\" said {h}.", "\"Thank you for taking me,\" said {h}.", "\"Can we come again?\" asked {h}. \"Of course,\" said {P}."],
    ],
    "morals": ["It was a day to remember.", "At home, {h} drew a picture of everything {he} had seen."],
}

MAGIC = {
    "rows": table("item power good", [
        ("a magic brush", "everything that {h} painted became real", "{H} painted bread for the hungry and a warm coat for an old man"), ("a little magic bell", "when it rang, everyone had to laugh", "{H} rang it for a sad old king, and he laughed for the first time in years"),
        ("a magic umbrella", "it could carry {him} through the air", "{H} flew over the flood and brought food to a family on a roof"), ("a small green stone", "{he} could understand what the animals said", "{H} heard that a fox was caught in a trap, and {he} set it free"),
        ("a magic pot", "it was never empty", "{H} gave soup to everyone in the village"), ("a pair of red boots", "{he} could run as fast as the wind", "{H} ran to fetch the doctor when {f} was ill"), ("a silver flute", "all the flowers opened when {he} played", "{H} played in the dry fields, and they turned green again"),
    ]),
    "openings": ["{h} found {item} {spot}."],
    "beats": [
        ["{One_day} {h} found {item} {spot}.", "{One_day} an old woman gave {h} {item}. \"Use it well,\" she said, and went away.", "{One_day} {h} opened an old box. There was {item} inside."],
        ["It looked like nothing special. But {h} soon saw that {power}.", "It was not like any other. {h} tried it, and {power}!", "\"What can it do?\" {he} asked. And then {he} saw it: {power}."],
        ["At first, {h} used it only for fun. {H} laughed all day long.", "{h} ran to show it to {his} friend {f}. \"It is wonderful!\" said {f}."],
        ["\"Think of all the things you can have!\" said {f}. But {h} thought of something else.", "Then {h} saw that not everyone was as happy as {he} was.", "\"You could help others with it,\" said {P}."],
        ["{good}.", "So {he} went out into the world. {good}."],
        ["A greedy man heard about it and tried to take it. But in his hands, it did nothing at all.", "Everyone thanked {him}. \"It was not me,\" said {h}. \"It was the magic.\" But {P} said, \"No, it was your good heart.\"", "From near and far, people came to say thank you."],
        ["When nobody needed it anymore, {h} put it back where it came from.", "One morning, the magic was gone. But {h} did not mind.", "{h} kept it safe for the next time that someone needed help."],
    ],
    "morals": ["{h} learned that the best magic is to help others.", "For the real magic was {h}'s kind heart."],
}

PLOTS = {"dragon": DRAGON, "wish": WISH, "star": STAR, "boast": BOAST, "store": STORE, "outing": OUTING, "magic": MAGIC}
